"""One face over time: where it is in every frame, and square crops that follow it.

Letters: F frames, H W pixels, h w grid cells, k picks, s side of a crop in pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from scipy import ndimage

from uniavgen.perception.errors import NotMeasured

FACE_PROBABILITY = 0.5
"""Probability from which a cell of a face map counts as face."""
MIN_CELLS = 6
"""Smaller regions are no face. [ours]"""
CONFIDENCE_CELLS = 9
"""Cells with the highest probabilities, over which the confidence of a region is averaged. [ours]"""
MAX_SHIFT_CELLS = 3
"""How far a face may move away from its region in the mean over time. [ours]"""
MIN_VISIBLE_SHARE = 0.8
"""Share of the frames that must show a face. [ours]"""
RIVAL_WEIGHT = 0.7
"""Weight over the most likely face's from which a second one counts. [ours]"""
POSITION_SMOOTHING_S, SIZE_SMOOTHING_S = 0.12, 0.5
"""Standard deviations of the Gaussian smoothing over time of centre and size. [ours]"""


@dataclass(frozen=True, kw_only=True)
class FaceTrack:
    """One face over time, in units of the frame's height."""

    centres: Float[np.ndarray, "F 2"]
    """x and y of the middle of its skin."""
    sizes: Float[np.ndarray, " F"]
    """Diameter: geometric mean of width and height."""
    source: str = ""
    """What found it, for reports."""

    @classmethod
    def from_probabilities(cls, probabilities: Float[np.ndarray, "F h w"], fps: float, source: str = "") -> "FaceTrack":
        """Finds the face in maps of face probability; NotMeasured without one, or with several.

        The most likely region of the mean over time is the face; cells far away from it never count.
        """
        regions = _regions(probabilities.mean(axis=0))
        if len(regions) > 1 and regions[1].weight >= RIVAL_WEIGHT * regions[0].weight:
            raise NotMeasured("several faces are seen; whose voice it is cannot be known")
        if regions:
            allowed = ndimage.binary_dilation(regions[0].cells, iterations=MAX_SHIFT_CELLS)
        else:
            allowed = np.ones_like(probabilities[0], bool)
        by_frame = [
            next((region for region in _regions(frame) if (region.cells & allowed).any()), None)
            for frame in probabilities
        ]
        visible = np.array([region is not None for region in by_frame])
        if not visible.any():
            raise NotMeasured("no face is seen")
        if visible.mean() < MIN_VISIBLE_SHARE:
            raise NotMeasured(f"a face is seen in {visible.mean():.0%} of the frames only")
        places = np.zeros((len(probabilities), 3))
        for frame in np.flatnonzero(visible):
            region = by_frame[frame]
            assert region is not None
            places[frame] = region.place(probabilities[frame])
        return cls.smoothed(np.flatnonzero(visible), places, fps, source)

    @classmethod
    def smoothed(
        cls, visible: Int[np.ndarray, " k"], places: Float[np.ndarray, "F 3"], fps: float, source: str = ""
    ) -> "FaceTrack":
        """Builds a track from x, y and size of the `visible` frames: interpolated over the others, then smoothed."""
        values = [np.interp(np.arange(len(places)), visible, places[visible, i]) for i in range(3)]
        deviations = (POSITION_SMOOTHING_S, POSITION_SMOOTHING_S, SIZE_SMOOTHING_S)
        smooth = [
            ndimage.gaussian_filter1d(value, deviation * fps, mode="nearest")
            for value, deviation in zip(values, deviations, strict=True)
        ]
        return cls(centres=np.stack(smooth[:2], axis=1), sizes=smooth[2], source=source)

    def at(self, picks: Int[np.ndarray, " k"]) -> "FaceTrack":
        """Returns the track at some frames only."""
        return FaceTrack(centres=self.centres[picks], sizes=self.sizes[picks], source=self.source)

    def crops(
        self, frames: UInt8[np.ndarray, "F H W 3"], side_px: int, share: float, below: float = 0.0
    ) -> UInt8[np.ndarray, "F s s 3"]:
        """Cuts a square out of every frame, `share` face sizes wide and centred `below` face sizes under the face's
        middle; black outside the frame."""
        height = frames.shape[1]
        squares = []
        for frame, (x, y), size in zip(frames, self.centres, self.sizes, strict=True):
            squares.append(_square(frame, x * height, (y + below * size) * height, share * size * height, side_px))
        return np.stack(squares)


@dataclass(frozen=True, kw_only=True)
class _Region:
    """Connected cells of high face probability."""

    cells: Bool[np.ndarray, "h w"]
    weight: float
    """Odds of the surest cells times the root of the area: a face is surer than an arm, which may be larger."""

    def place(self, probability: Float[np.ndarray, "h w"]) -> tuple[float, float, float]:
        """Returns x, y and size in units of the height, from the moments of the probabilities."""
        weights = np.where(self.cells, probability, 0.0)
        rows, columns = np.arange(probability.shape[0]) + 0.5, np.arange(probability.shape[1]) + 0.5
        total, height = weights.sum(), probability.shape[0]
        y, x = (weights.sum(1) @ rows) / total, (weights.sum(0) @ columns) / total
        # 1/12 is the variance of a uniform density within one cell.
        deviation_y = np.sqrt(weights.sum(1) @ (rows - y) ** 2 / total + 1 / 12)
        deviation_x = np.sqrt(weights.sum(0) @ (columns - x) ** 2 / total + 1 / 12)
        # The standard deviation of a filled ellipse is a quarter of its axis.
        return x / height, y / height, 4 * np.sqrt(deviation_x * deviation_y) / height


def _regions(probability: Float[np.ndarray, "h w"]) -> list[_Region]:
    """Returns the regions that may be faces, the most likely first."""
    labels, count = ndimage.label(probability > FACE_PROBABILITY)  # pyright: ignore
    regions = []
    for label in range(1, count + 1):
        cells = labels == label
        area = int(cells.sum())
        if area >= MIN_CELLS:
            confidence = np.sort(probability[cells])[-CONFIDENCE_CELLS:].mean().clip(max=0.999)
            regions.append(_Region(cells=cells, weight=float(confidence / (1 - confidence) * np.sqrt(area))))
    return sorted(regions, key=lambda region: -region.weight)


def _square(
    frame: UInt8[np.ndarray, "H W 3"], x: float, y: float, side: float, side_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    image = Image.fromarray(frame)
    # Bilinear sampling alone would skip pixels where it shrinks by two or more, so boxes of pixels are averaged first.
    factor = max(int(side / side_px), 1)
    if factor > 1:
        image = image.reduce(factor)
    step = side / side_px / factor
    left, top = (x - side / 2) / factor, (y - side / 2) / factor
    return np.asarray(
        image.transform(
            (side_px, side_px),
            Image.Transform.AFFINE,
            (step, 0, left, 0, step, top),
            resample=Image.Resampling.BILINEAR,
        )
    )
