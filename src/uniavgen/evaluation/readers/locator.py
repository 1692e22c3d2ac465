"""Where the face of a clip is, found by a small network of our own, and squares of pictures that follow it. [ours]

The network marks the skin of faces, as the masks of the synthetic world do, on a picture of 96 px; centre and size come
from the moments of what it marks, and are smoothed over time. No other detector is needed.

Letters: F frames, H W pixels, b pictures, c channels, h w grid, s side.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.readers.blocks import Block
from uniavgen.evaluation.readers.storing import load, shipped

COMMAND = "train-reader locator"
SHORT_SIDE_PX, CELL_PX, STRIDE = 96, 4, 8
"""Shorter side of the pictures it looks at, pixels of them a cell of its marks, and what sides are multiples of."""
SURE = 0.5
"""Probability of a cell that counts as face."""
LEAST_CELLS, SUREST_CELLS, ROAM = 6, 9, 3
"""Fewer are no face; how many tell how sure it is; how far it may leave its mean place. [ours]"""
SEEN_SHARE, RIVAL = 0.8, 0.7
"""Share of the frames that must show a face; weight over the likeliest face's from which another one counts. [ours]"""
STEADY_S, STEADY_SIZE_S = 0.12, 0.5
"""Deviation of the smoothing over time of centre and of size. [ours]"""


class FaceLocator(nn.Module):
    """Marks faces: down to an eighth, where every place knows all others' mean, and up to a quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = nn.Sequential(nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.fine = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), Block(24))
        self.coarse = nn.Sequential(nn.Conv2d(24, 48, 3, stride=2, padding=1), Block(48), Block(48))
        self.all = nn.Linear(48, 48)
        self.after = nn.Sequential(Block(48), Block(48), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 24, 1))
        self.marks = nn.Sequential(Block(24), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 1, 1))

    def forward(self, pictures: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b h w"]:
        """Log-odds of face for cells of 4 px; values in [-1, 1], sides multiples of 8."""
        fine = self.fine(self.begin(pictures))
        coarse = self.coarse(fine)
        everywhere = self.all(reduce(coarse, "b c h w -> b c", "mean"))
        coarse = self.after(coarse + rearrange(everywhere, "b c -> b c 1 1"))
        return self.marks(fine + F.interpolate(coarse, scale_factor=2.0, mode="bilinear"))[:, 0]

    @torch.no_grad()
    def mark(self, frames: UInt8[np.ndarray, "F H W 3"]) -> Float[np.ndarray, "F h w"]:
        """Probability of face in every cell of every frame."""
        found = []
        for start in range(0, len(frames), 32):
            small = np.stack([_small(frame) for frame in frames[start : start + 32]])
            found.append(self(to_tensor(small)).sigmoid().numpy())
        return np.concatenate(found)

    @classmethod
    def load(cls, path: Path | None = None) -> "FaceLocator":
        """The locator stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or shipped("face_locator"), "face locator", COMMAND)


@dataclass(frozen=True, kw_only=True)
class FacePath:
    """One face over time, in shares of the picture's height."""

    centres: Float[np.ndarray, "F 2"]
    """x and y of the middle of its skin."""
    sizes: Float[np.ndarray, " F"]
    """Diameter: geometric mean of width and height."""

    @classmethod
    def of(cls, marks: Float[np.ndarray, "F h w"], fps: float) -> "FacePath":
        """The face that is marked (0 to 1); NotMeasured without one, or with several.

        What is marked most surely in the mean over time is the face; elsewhere nothing counts.
        """
        spots = _spots(marks.mean(axis=0))
        if len(spots) > 1 and spots[1].weight >= RIVAL * spots[0].weight:
            raise NotMeasured("several faces are seen; whose voice it is cannot be known")
        home = ndimage.binary_dilation(spots[0].cells, iterations=ROAM) if spots else np.ones_like(marks[0], bool)
        found = [next((spot for spot in _spots(mark) if (spot.cells & home).any()), None) for mark in marks]
        seen = np.array([spot is not None for spot in found])
        if not seen.any():
            raise NotMeasured("no face is seen")
        if seen.mean() < SEEN_SHARE:
            raise NotMeasured(f"a face is seen in {seen.mean():.0%} of the frames only")
        places = np.zeros((len(marks), 3))
        for frame in np.flatnonzero(seen):
            spot = found[frame]
            assert spot is not None
            places[frame] = spot.place(marks[frame])
        return cls.steady(np.flatnonzero(seen), places, fps)

    @classmethod
    def steady(cls, seen: Int[np.ndarray, " k"], places: Float[np.ndarray, "F 3"], fps: float) -> "FacePath":
        """Out of x, y and size of the frames that are `seen`: bridged over the others and smoothed over time."""
        values = [np.interp(np.arange(len(places)), seen, places[seen, i]) for i in range(3)]
        smooth = [
            ndimage.gaussian_filter1d(value, deviation * fps, mode="nearest")
            for value, deviation in zip(values, (STEADY_S, STEADY_S, STEADY_SIZE_S), strict=True)
        ]
        return cls(centres=np.stack(smooth[:2], axis=1), sizes=smooth[2])

    def at(self, picks: Int[np.ndarray, " k"]) -> "FacePath":
        """At some frames only."""
        return FacePath(centres=self.centres[picks], sizes=self.sizes[picks])

    def squares(
        self, frames: UInt8[np.ndarray, "F H W 3"], side_px: int, share: float, below: float = 0.0
    ) -> UInt8[np.ndarray, "F s s 3"]:
        """A square of every frame, `share` face sizes wide and `below` face sizes under its middle; black outside."""
        height = frames.shape[1]
        cut = []
        for frame, (x, y), size in zip(frames, self.centres, self.sizes, strict=True):
            cut.append(_square(frame, x * height, (y + below * size) * height, share * size * height, side_px))
        return np.stack(cut)


def to_tensor(pictures: UInt8[np.ndarray, "*b h w c"]) -> Float[Tensor, "*b c h w"]:
    """Values in [-1, 1]."""
    return rearrange(torch.from_numpy(pictures), "... h w c -> ... c h w").float() / 127.5 - 1


def _small(frame: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    scale = SHORT_SIDE_PX / min(frame.shape[:2])
    height, width = (max(round(side * scale / STRIDE), 1) * STRIDE for side in frame.shape[:2])
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Marked cells that hang together."""

    cells: Bool[np.ndarray, "h w"]
    weight: float
    """Odds of the surest cells times the root of the area: a face is marked more surely than a larger arm."""

    def place(self, mark: Float[np.ndarray, "h w"]) -> tuple[float, float, float]:
        """x, y and size in shares of the height."""
        weights = np.where(self.cells, mark, 0.0)
        rows, columns = np.arange(mark.shape[0]) + 0.5, np.arange(mark.shape[1]) + 0.5
        total, height = weights.sum(), mark.shape[0]
        y, x = (weights.sum(1) @ rows) / total, (weights.sum(0) @ columns) / total
        spread_y = np.sqrt(weights.sum(1) @ (rows - y) ** 2 / total + 1 / 12)
        spread_x = np.sqrt(weights.sum(0) @ (columns - x) ** 2 / total + 1 / 12)
        # The deviation of an ellipse is a quarter of its axis.
        return x / height, y / height, 4 * np.sqrt(spread_x * spread_y) / height


def _spots(mark: Float[np.ndarray, "h w"]) -> list[_Spot]:
    """The likeliest face first; without those of very few cells."""
    labels, count = ndimage.label(mark > SURE)  # pyright: ignore
    spots = []
    for label in range(1, count + 1):
        cells = labels == label
        area = int(cells.sum())
        if area >= LEAST_CELLS:
            surest = np.sort(mark[cells])[-SUREST_CELLS:].mean().clip(max=0.999)
            spots.append(_Spot(cells=cells, weight=float(surest / (1 - surest) * np.sqrt(area))))
    return sorted(spots, key=lambda spot: -spot.weight)


def _square(frame: UInt8[np.ndarray, "H W 3"], x: float, y: float, side: float, side_px: int) -> np.ndarray:
    """Where it shrinks by two or more, boxes of pixels are averaged first."""
    picture, by = Image.fromarray(frame), max(int(side / side_px), 1)
    if by > 1:
        picture = picture.reduce(by)
    step = side / side_px / by
    left, top = (x - side / 2) / by, (y - side / 2) / by
    return np.asarray(
        picture.transform(
            (side_px, side_px),
            Image.Transform.AFFINE,
            (step, 0, left, 0, step, top),
            resample=Image.Resampling.BILINEAR,
        )
    )
