"""FID and FVD: how far the features of a system's frames or stretches are from those of the true videos. [paper 4.2,
Table 6]

The Frechet distance of two normal distributions [Heusel et al. 2017; Unterthiner et al. 2018] of a whole set, not of a
clip. The networks are the TorchScript files that the field shares (Inception of StyleGAN, I3D of StyleGAN-V).

Letters: F frames, H W pixels, n features, d numbers of a feature, b pictures or stretches.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError, MediaError
from uniavgen.evaluation.clip import MAX_S, Clip
from uniavgen.evaluation.metric import NOTHING, WHOLE, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.video import read_video

BATCH = 16
FEWEST = 2
"""Features without which there is no covariance; the field takes thousands."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """FID or FVD."""

    column: Column
    network: str
    frames: int
    """Of a stretch that gives one feature."""
    options: Mapping[str, bool]
    """What the network is called with."""


FID = Kind(
    column=Column(
        name="fid",
        description="Frechet distance of Inception features of all frames to those of the prompts' videos; 0 or more",
        better=Better.LOWER,
    ),
    network="inception",
    frames=1,
    options={"return_features": True},
)
FVD = Kind(
    column=Column(
        name="fvd",
        description="Frechet distance of I3D features of stretches of 16 frames to those of the prompts' videos; "
        "0 or more",
        better=Better.LOWER,
    ),
    network="i3d",
    frames=16,
    options={"rescale": True, "resize": True, "return_features": True},
)


class FrechetDistance:
    """One number for a system, over all clips whose prompt has a video."""

    settings = NOTHING

    def __init__(self, kind: Kind, weights: Weights, device: str = "cpu") -> None:
        self.columns = (kind.column,)
        self.networks = {kind.network: weights}
        self._kind, self._device = kind, device
        self._made, self._true = f"embedding/{kind.column.name}", f"embedding/{kind.column.name} of the truth"

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        if prompt.video is None:
            raise NotMeasured("the prompt has no video")
        try:
            video = read_video(prompt.video, clip.fps, max_frames=int(MAX_S * clip.fps), trim=True)
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.video), prompt.video.name)) from None
        details = {self._made: _packed(self._features(clip.frames)), self._true: _packed(self._features(video.frames))}
        return Measurement(scores={}, details=details)

    def combine(
        self, prompts: Sequence[Prompt], details: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        """The distance of the whole system, or why there is none."""
        del prompts
        measured = [found for found in details.values() if self._made in found]
        name = self._kind.column.name
        if not measured:
            return {}
        made, true = (np.concatenate([_unpacked(found[key]) for found in measured]) for key in (self._made, self._true))
        if min(len(made), len(true)) < FEWEST:
            return {WHOLE: {name: f"there are fewer than {FEWEST} stretches of {self._kind.frames} frames"}}
        return {WHOLE: {name: frechet_distance(made, true)}}

    @torch.no_grad()
    def _features(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "n d"]:
        count = len(frames) // self._kind.frames
        if not count:
            raise NotMeasured(f"the clip or its truth has fewer than {self._kind.frames} frames")
        pictures = torch.from_numpy(np.ascontiguousarray(frames[: count * self._kind.frames])).permute(0, 3, 1, 2)
        if self._kind.frames > 1:
            pictures = pictures.unflatten(0, (count, self._kind.frames)).transpose(1, 2).float()
        found = [
            self._network(part.to(self._device), **self._kind.options).float().cpu() for part in pictures.split(BATCH)
        ]
        return torch.cat(found).numpy()

    @cached_property
    def _network(self) -> Any:
        path = self.networks[self._kind.network].path
        try:
            return torch.jit.load(path, map_location=self._device).eval()
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path} is no TorchScript network ({first_line(error)[:120]})") from None


def frechet_distance(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]) -> float:
    """|mean difference|^2 + trace(A + B - 2 (A B)^(1/2)) of the features' means and covariances A and B."""
    a, b = (np.atleast_2d(np.cov(features.astype(np.float64), rowvar=False)) for features in (first, second))
    apart = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    # (A B)^(1/2) has the trace of (R B R)^(1/2) with R = A^(1/2), and that matrix is symmetric.
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(apart @ apart + np.trace(a) + np.trace(b) - 2 * shared)


def _packed(features: Float[np.ndarray, "n d"]) -> dict[str, Any]:
    """As JSON, in half precision: a clip has some hundred thousand numbers."""
    return {"shape": list(features.shape), "float16": base64.b64encode(features.astype("<f2").tobytes()).decode()}


def _unpacked(stored: Mapping[str, Any]) -> Float[np.ndarray, "n d"]:
    return np.frombuffer(base64.b64decode(stored["float16"]), "<f2").astype(np.float32).reshape(stored["shape"])
