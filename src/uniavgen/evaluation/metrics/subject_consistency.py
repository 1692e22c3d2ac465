"""SC: does the subject look the same throughout, by DINO features, as VBench defines it. [paper 4.2; VBench]"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt

NETWORK = "dino"
SHORT_SIDE_PX = 224
BATCH = 16
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLUMNS = (
    Column(
        name="sc",
        description="subject consistency as VBench defines it: mean over frames of the cosines of DINO features with "
        "the first and with the previous frame; 0 to 1",
        better=Better.HIGHER,
    ),
)


class SubjectConsistency:
    """DINO ViT-B/16 by transformers."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.networks = {NETWORK: weights}
        self._device = device

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        features = np.concatenate(
            [self._features(clip.frames[i : i + BATCH]) for i in range(0, len(clip.frames), BATCH)]
        )
        return Measurement(scores={"sc": consistency(features)})

    @torch.no_grad()
    def _features(self, frames: UInt8[np.ndarray, "b H W 3"]) -> Float[np.ndarray, "b d"]:
        pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        scale = SHORT_SIDE_PX / min(pictures.shape[-2:])
        size = [max(int(side * scale), SHORT_SIDE_PX) for side in pictures.shape[-2:]]
        pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False) / 255
        mean, spread = (torch.tensor(values)[:, None, None] for values in (_MEAN, _SPREAD))
        found = self._network(((pictures - mean) / spread).to(self._device), interpolate_pos_encoding=True)
        return found.last_hidden_state[:, 0].cpu().numpy()

    @cached_property
    def _network(self) -> Any:
        from transformers import ViTModel

        path = self.networks[NETWORK].path
        try:
            return ViTModel.from_pretrained(path, add_pooling_layer=False).to(self._device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} is no DINO model that can be loaded ({first_line(error)})") from None


def consistency(features: Float[np.ndarray, "F d"]) -> float:
    """VBench's mean of two cosines, each at least 0, over all frames but the first."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    with_first = np.maximum(unit[1:] @ unit[0], 0)
    with_previous = np.maximum((unit[1:] * unit[:-1]).sum(axis=1), 0)
    return float((with_first + with_previous).mean() / 2)
