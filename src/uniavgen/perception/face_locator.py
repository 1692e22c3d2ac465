"""A small network of our own that marks faces, so that no other detector is needed. [ours]

It predicts where the skin of faces is, as the masks of the synthetic world have it, from images of 96 px; `FaceTrack`
turns its maps into centres and sizes.

Letters: F frames, H W pixels, b images, c channels, h w grid cells.
"""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.perception.frames import to_tensor
from uniavgen.perception.layers import DepthwiseBlock
from uniavgen.perception.loading import load_own, shipped_weights

COMMAND = "train-reader locator"
SHORT_SIDE_PX = 96
"""Shorter side of the images that the network sees."""
CELL_PX, STRIDE_PX = 4, 8
"""Pixels a side of a cell of its map, and what both sides of an image are multiples of."""
BATCH = 32


class FaceLocator(nn.Module):
    """Encoder to an eighth, where the mean over all cells is added to each, and decoder up to a quarter."""

    # The names of the layers are those of the shipped weights.
    def __init__(self) -> None:
        super().__init__()
        self.begin = nn.Sequential(nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), DepthwiseBlock(24))
        self.coarse = nn.Sequential(nn.Conv2d(24, 48, 3, stride=2, padding=1), DepthwiseBlock(48), DepthwiseBlock(48))
        self.all = nn.Linear(48, 48)
        self.after = nn.Sequential(
            DepthwiseBlock(48), DepthwiseBlock(48), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 24, 1)
        )
        self.marks = nn.Sequential(DepthwiseBlock(24), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 1, 1))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b h w"]:
        """Returns the log-odds of face for cells of 4 px; values in [-1, 1], sides multiples of 8."""
        fine = self.fine(self.begin(images))
        coarse = self.coarse(fine)
        context = self.all(reduce(coarse, "b c h w -> b c", "mean"))
        coarse = self.after(coarse + rearrange(context, "b c -> b c 1 1"))
        return self.marks(fine + F.interpolate(coarse, scale_factor=2.0, mode="bilinear"))[:, 0]

    @torch.no_grad()
    def predict(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F h w"]:
        """Returns the probability of face in every cell of every frame."""
        probabilities = []
        for start in range(0, len(frames), BATCH):
            small = np.stack([_shrunk(frame) for frame in frames[start : start + BATCH]])
            probabilities.append(self(to_tensor(small)).sigmoid().numpy())
        return np.concatenate(probabilities)

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceLocator":
        """Loads the network at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load_own(cls(), path or shipped_weights("face_locator"), "face locator", COMMAND)


def _shrunk(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    scale = SHORT_SIDE_PX / min(frame.shape[:2])
    height, width = (max(round(side * scale / STRIDE_PX), 1) * STRIDE_PX for side in frame.shape[:2])
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
