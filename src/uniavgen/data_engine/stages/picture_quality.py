"""How sharp the face is, how large the picture really is, and whether it moves at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.config import Config
from uniavgen.config.values import Positive, PositiveInt
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import grouped_moments, segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.packages import require

_FACE_PX: Final = 128
_SMALL_PX: Final = 64
_BANDS: Final = 24
"""Of spatial frequencies."""

_PACKAGES: Final = {"cv2": "opencv-python-headless"}


@dataclass(frozen=True, kw_only=True)
class PictureQualityConfig(Config):
    """Settings of `PictureQualityStage`."""

    frames: PositiveInt = 5
    """A segment. [ours]"""
    context: Positive = 1.5
    """Side of the square around the face in which detail and movement are measured, in sizes of its box. [ours]"""
    detail_drop: Positive = 0.125
    """A band of spatial frequencies counts as empty below this share of the strongest one. [ours, measured]"""


class PictureQualityStage(Stage):
    """Measures a few frames of every segment at their stored size.

    Values: segments, in the order of `segments`, each with
    face_px (height of the face's box), sharpness (variance of the Laplacian of the face at 128 px, in squared grey
    levels), detail_px (shorter side that a picture needs for the detail that is there; far below the stored one where
    it was upscaled), upscaling (the stored side over that), change (mean difference in grey levels of the square around
    the face, from frame to frame; near 0 for a still picture).
    """

    name = "picture_quality"
    requires = ("segments", "faces")
    packages = _PACKAGES
    settings_class = PictureQualityConfig
    settings: PictureQualityConfig

    def setup(self) -> None:
        self._cv2: Any = require("cv2", "picture quality", "opencv-python-headless")

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments, faces = segments_of(inputs["segments"]), FaceBoxes.of(inputs["faces"].arrays)
        moments = list(grouped_moments(segments, self.settings.frames))
        measured: list[list[dict[str, float]]] = [[] for _ in segments]
        squares: list[list[np.ndarray]] = [[] for _ in segments]
        with open_media(source.path, quiet=True) as reader:
            frames = sample_frames(reader, [time_s for _, time_s in moments])
            for (index, _), frame in zip(moments, frames, strict=False):
                box = faces.box_at(segments[index].track, frame.time_s)
                values, square = self._measure(frame.pixels, box)
                measured[index].append(values)
                squares[index].append(square)
        return StageOutput(values={"segments": [_summary(*pair) for pair in zip(measured, squares, strict=True)]})

    def _measure(
        self, image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 4"]
    ) -> tuple[dict[str, float], Float[np.ndarray, "s s"]]:
        grey = self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        corners = box * (width, height, width, height)
        face = self._cv2.resize(_cut(grey, corners, 1.0), (_FACE_PX, _FACE_PX), interpolation=self._cv2.INTER_AREA)
        around = _cut(grey, corners, self.settings.context)
        share = detail_share(around, self.settings.detail_drop)
        values = {
            "face_px": float(corners[3] - corners[1]),
            "sharpness": float(self._cv2.Laplacian(face, self._cv2.CV_64F).var()),
            "detail_px": share * min(height, width),
            "upscaling": 1 / share,
        }
        small = self._cv2.resize(around, (_SMALL_PX, _SMALL_PX), interpolation=self._cv2.INTER_AREA)
        return values, small.astype(np.float32)


def detail_share(grey: UInt8[np.ndarray, "h w"], drop: float) -> float:
    """Returns up to which part of the highest spatial frequency there is detail, 0 to 1.

    The power of pictures falls with the square of frequency, so power times that square is about level; that of an
    upscaled picture drops where the frequencies of the original end. Beyond there is the noise of the codec.
    """
    levels = np.zeros(_BANDS)
    for lines in (grey, grey.T):
        values = (lines - lines.mean(axis=1, keepdims=True)) * np.hanning(lines.shape[1])
        power = (np.abs(np.fft.rfft(values, axis=1)) ** 2).mean(axis=0)
        level = power * np.linspace(0, 1, len(power)) ** 2
        levels += [band.mean() if len(band) else 0.0 for band in np.array_split(level, _BANDS)]
    empty = np.flatnonzero(levels < drop * levels.max())
    behind = empty[empty > levels.argmax()]
    return float(behind[0] / _BANDS) if len(behind) else 1.0


def _cut(grey: UInt8[np.ndarray, "h w"], corners: np.ndarray, scale: float) -> UInt8[np.ndarray, "h2 w2"]:
    """Returns the part of a picture inside a box that is enlarged about its middle; at least 2 pixels a side."""
    height, width = grey.shape
    left, top, right, bottom = corners
    x, y, half_x, half_y = (
        (left + right) / 2,
        (top + bottom) / 2,
        scale * (right - left) / 2,
        scale * (bottom - top) / 2,
    )
    first_x, first_y = (int(np.clip(low, 0, size - 2)) for low, size in ((x - half_x, width), (y - half_y, height)))
    last_x, last_y = int(np.clip(x + half_x, first_x + 2, width)), int(np.clip(y + half_y, first_y + 2, height))
    return grey[first_y:last_y, first_x:last_x]


def _summary(frames: list[dict[str, float]], squares: list[np.ndarray]) -> dict[str, float | str]:
    """Returns medians over the frames, and how much they differ."""
    if not frames:
        return {"reason": "the video ends before"}
    changes = [float(np.abs(b - a).mean()) for a, b in pairwise(squares)]
    medians = {name: float(np.median([frame[name] for frame in frames])) for name in frames[0]}
    return {**medians, "change": float(np.mean(changes)) if changes else 0.0}
