"""Features for Frechet distances: the TorchScript files that the field shares (Inception of StyleGAN, I3D of
StyleGAN-V).

Letters: F frames, H W pixels, n features, d numbers of a feature.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.perception.errors import NotMeasured

BATCH = 16


class FrechetFeatures:
    """One feature for every `frames_per_feature` frames."""

    def __init__(
        self, path: Path, frames_per_feature: int, call_options: Mapping[str, bool], device: str = "cpu"
    ) -> None:
        try:
            self._network = torch.jit.load(path, map_location=device).eval()
        except (RuntimeError, ValueError) as error:  # documented by torch.jit.load: no archive, no file
            raise CheckpointError(f"{path} is no TorchScript network ({first_line(error)[:120]})") from error
        self._frames_per_feature, self._call_options, self._device = frames_per_feature, dict(call_options), device

    @torch.no_grad()
    def extract(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "n d"]:
        """Returns the features of a clip, without frames that fill no whole one; NotMeasured for too few frames."""
        per_feature = self._frames_per_feature
        count = len(frames) // per_feature
        if not count:
            raise NotMeasured(f"the clip or its truth has fewer than {per_feature} frames")
        images = torch.from_numpy(np.ascontiguousarray(frames[: count * per_feature])).permute(0, 3, 1, 2)
        if per_feature > 1:
            # To b c t h w in floats, as I3D takes them.
            images = images.unflatten(0, (count, per_feature)).transpose(1, 2).float()
        features = [
            self._network(part.to(self._device), **self._call_options).float().cpu() for part in images.split(BATCH)
        ]
        return torch.cat(features).numpy()
