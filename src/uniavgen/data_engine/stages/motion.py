"""How much the picture moves, and how much of that is the camera, by optical flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float, UInt8

from uniavgen.config import Config
from uniavgen.config.values import Positive, PositiveInt
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import ShownFrame, sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.packages import require

_PACKAGES: Final = {"cv2": "opencv-python-headless"}


@dataclass(frozen=True, kw_only=True)
class MotionConfig(Config):
    """Settings of `MotionStage`."""

    pairs: PositiveInt = 5
    """Pairs of frames a segment. [ours]"""
    interval_s: Positive = 0.12
    """Between the two frames of a pair. [ours]"""
    short_side_px: PositiveInt = 144
    """Of these frames."""


class MotionStage(Stage):
    """Compares pairs of frames by dense inverse search (DIS) flow.

    Values: segments, in the order of `segments`, each with face (speed of the middle of the face's box), picture (mean
    speed of all points) and camera (median speed of the points outside the face's box), in heights of the picture a
    second.
    """

    name = "motion"
    requires = ("segments", "faces")
    packages = _PACKAGES
    settings_class = MotionConfig
    settings: MotionConfig

    def setup(self) -> None:
        self._cv2: Any = require("cv2", "motion", "opencv-python-headless")

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments, faces = segments_of(inputs["segments"]), FaceBoxes.of(inputs["faces"].arrays)
        # Made here since it cannot be sent to other processes.
        flow = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        moments = [
            # Pairs of a short segment are nearer, so that they follow one another.
            (index, time_s + side * min(self.settings.interval_s, segment.length_s / self.settings.pairs) / 2)
            for index, segment in enumerate(segments)
            for time_s in segment.moments(self.settings.pairs)
            for side in (-1, 1)
        ]
        measured: list[list[dict[str, float]]] = [[] for _ in segments]
        with open_media(source.path, quiet=True) as reader:
            times = [time_s for _, time_s in moments]
            frames = sample_frames(reader, times, self.settings.short_side_px)
            # The same iterator twice: neighbours form pairs.
            for (index, _), before, after in zip(moments[::2], frames, frames, strict=False):
                track = segments[index].track
                if after.time_s > before.time_s:
                    boxes = [faces.box_at(track, frame.time_s) for frame in (before, after)]
                    measured[index].append(self._speeds(flow, before, after, boxes))
        return StageOutput(values={"segments": [_means(each) for each in measured]})

    def _speeds(
        self, flow: Any, before: ShownFrame, after: ShownFrame, boxes: list[Float[np.ndarray, " 4"]]
    ) -> dict[str, float]:
        grey = [self._grey(frame.pixels) for frame in (before, after)]
        height, width = grey[0].shape
        seconds = after.time_s - before.time_s
        speed = np.linalg.norm(flow.calc(*grey, None), axis=2) / height / seconds
        columns, rows = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        left, top, right, bottom = boxes[0]
        in_face = ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))
        aspect = np.array([width / height, 1.0])
        middles = [(box[:2] + box[2:]) / 2 * aspect for box in boxes]
        return {
            "face": float(np.linalg.norm(middles[1] - middles[0]) / seconds),
            "picture": float(speed.mean()),
            "camera": float(np.median(speed[~in_face])) if not in_face.all() else 0.0,
        }

    def _grey(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
        return self._cv2.cvtColor(image, self._cv2.COLOR_RGB2GRAY)


def _means(pairs: list[dict[str, float]]) -> dict[str, float | str]:
    if not pairs:
        return {"reason": "the video ends before"}
    return {name: float(np.mean([pair[name] for pair in pairs])) for name in pairs[0]}
