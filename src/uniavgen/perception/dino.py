"""Image features by DINO ViT-B/16, preprocessed as VBench does. [arXiv 2104.14294; VBench, subject consistency]

Letters: F frames, H W pixels, d numbers of a feature.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError

SHORT_SIDE_PX = 224
BATCH = 16
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DinoFeatures:
    """The vision transformer of transformers."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        from transformers import ViTModel

        try:
            self._network = ViTModel.from_pretrained(path, add_pooling_layer=False).to(device).eval()
        except (OSError, ValueError) as error:  # documented by from_pretrained
            raise CheckpointError(f"{path} is no DINO model that can be loaded ({first_line(error)})") from error
        self._device = device

    def embed(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F d"]:
        """Returns the class token of every frame."""
        return np.concatenate([self._embed(frames[i : i + BATCH]) for i in range(0, len(frames), BATCH)])

    @torch.no_grad()
    def _embed(self, frames: UInt8[np.ndarray, "b H W 3"]) -> Float[np.ndarray, "b d"]:
        images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        scale = SHORT_SIDE_PX / min(images.shape[-2:])
        size = [max(int(side * scale), SHORT_SIDE_PX) for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False) / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        outputs = self._network(((images - mean) / std).to(self._device), interpolate_pos_encoding=True)
        return outputs.last_hidden_state[:, 0].cpu().numpy()
