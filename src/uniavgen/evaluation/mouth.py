"""Mouth opening read from pictures by a small network of our own, and compared with the truth. [ours]

The reader sees the face's square of a clip, which the true mask of the first picture gives (every system starts from
this picture), with room for the head to move. It learned from rendered faces (`mouth_training`), softened and stained
as generated pictures are. A curve is compared by Pearson's correlation: scale and offset, where the reader errs from
person to person, do not count.

Letters: F pixel frames, H W pixels, b pictures, c channels, h w feature map.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.readers.blocks import picture_features
from uniavgen.evaluation.readers.storing import load, shipped, store

SHIPPED = shipped("mouth_reader")
SIDE_PX = 64
"""Side of the squares that the reader looks at. [ours]"""
ROOM = 1.4
"""Side of the square over that of the face. [ours]"""


@dataclass(frozen=True, kw_only=True)
class FaceSquare:
    """Where to look, in shares of the picture's width and height, so that it holds for any size of it."""

    x: float
    y: float
    """Centre."""
    width: float
    height: float

    @classmethod
    def of(cls, masks: Bool[np.ndarray, "F H W"]) -> "FaceSquare":
        """Around the face in the first picture that shows one; NotMeasured without any."""
        shown = masks.any(axis=(1, 2))
        if not shown.any():
            raise NotMeasured("the clip shows no face")
        mask = masks[int(shown.argmax())]
        height, width = mask.shape
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        side = ROOM * float(max(bottom - top, right - left))
        return cls(
            x=float(left + right) / 2 / width,
            y=float(top + bottom) / 2 / height,
            width=side / width,
            height=side / height,
        )

    def cut(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[Tensor, "F 3 side side"]:
        """The square of every frame, in [-1, 1] and at the reader's size; edges repeat beyond the picture."""
        pictures = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "F H W c -> F c H W").float() / 127.5 - 1
        shrink = self.height * frames.shape[1] / SIDE_PX
        if shrink > 1.5:
            size = (round(frames.shape[1] / shrink), round(frames.shape[2] / shrink))
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        matrix = torch.tensor([[self.width, 0.0, 2 * self.x - 1], [0.0, self.height, 2 * self.y - 1]])
        shape = [len(frames), 3, SIDE_PX, SIDE_PX]
        grid = F.affine_grid(repeat(matrix, "r c -> F r c", F=len(frames)), shape, align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


class MouthReader(nn.Module):
    """Squares of faces to mouth opening: 0.1M parameters, an 8 x 8 feature map, two layers over all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = picture_features(3, 64, 8)
        places = 8 * (SIDE_PX // 8) ** 2
        self.opening = nn.Sequential(nn.Linear(places, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, squares: Float[Tensor, "b 3 side side"]) -> Float[Tensor, " b"]:
        """Mouth opening in the renderer's unit; `squares` as `FaceSquare.cut` gives them."""
        return self.opening(rearrange(self.features(squares), "b c h w -> b (c h w)"))[:, 0]

    @torch.no_grad()
    def read(self, frames: UInt8[np.ndarray, "F H W 3"], where: FaceSquare) -> Float[np.ndarray, " F"]:
        """Curve of a clip, one value a frame."""
        return self(where.cut(frames)).numpy()

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write safetensors, whole or not at all."""
        store(self, path, metadata, torch.float32)

    @classmethod
    def load(cls, path: Path | None = None) -> "MouthReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or SHIPPED, "mouth reader", "train-mouth-reader")


def correlation(curve: Float[np.ndarray, " F"], truth: Float[np.ndarray, " F"]) -> float:
    """Pearson's r; 0 for a curve that never moves, NotMeasured for such a truth."""
    a = curve.astype(np.float64) - curve.mean(dtype=np.float64)
    b = truth.astype(np.float64) - truth.mean(dtype=np.float64)
    if b.std() < 1e-6:
        raise NotMeasured("the mouth of the truth never moves")
    if a.std() < 1e-6:
        return 0.0
    return float((a * b).mean() / (a.std() * b.std()))


def spoken_span(truth: Float[np.ndarray, " F"]) -> slice:
    """Frames from the first to the last at which the mouth is open by a tenth of its widest above its narrowest."""
    low, high = float(truth.min()), float(truth.max())
    is_open = np.flatnonzero(truth >= low + 0.1 * (high - low))
    return slice(int(is_open[0]), int(is_open[-1]) + 1)
