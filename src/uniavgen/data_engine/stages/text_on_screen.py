"""Words that are burnt into the picture, such as subtitles and captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from uniavgen.config import Config
from uniavgen.config.values import PositiveInt, Probability
from uniavgen.data_engine.segment import grouped_moments, segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.packages import require

_PACKAGES: Final = {"rapidocr": "rapidocr", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True, kw_only=True)
class TextOnScreenConfig(Config):
    """Settings of `TextOnScreenStage`."""

    frames: PositiveInt = 1
    """A segment, since text recognition is slow. [ours]"""
    short_side_px: PositiveInt = 480
    """Of these frames."""
    min_characters: PositiveInt = 4
    """Shorter texts are often none. [ours, measured]"""
    min_probability: Probability = 0.9
    """As the recognition network says. [ours, measured]"""


class TextOnScreenStage(Stage):
    """Recognises text in the middle of every segment, by PP-OCR.

    Values: segments, in the order of `segments`, each with texts (text, probability, box in shares of the picture's
    sides), num_characters and area (share of the picture that all texts cover).
    """

    name = "text_on_screen"
    requires = ("segments",)
    packages = _PACKAGES
    settings_class = TextOnScreenConfig
    settings: TextOnScreenConfig

    def setup(self) -> None:
        rapidocr: Any = require("rapidocr", "text on screen", "rapidocr")
        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
        self._read_text = rapidocr.RapidOCR(params={"Global.log_level": "error", **threads})

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        moments = list(grouped_moments(segments, self.settings.frames))
        texts: list[list[dict[str, Any]]] = [[] for _ in segments]
        with open_media(source.path, quiet=True) as reader:
            frames = sample_frames(reader, [time_s for _, time_s in moments], self.settings.short_side_px)
            for (index, _), frame in zip(moments, frames, strict=False):
                texts[index] += self._texts(frame.pixels)
        return StageOutput(values={"segments": [_summary(each) for each in texts]})

    def _texts(self, image: UInt8[np.ndarray, "h w 3"]) -> list[dict[str, Any]]:
        height, width = image.shape[:2]
        result = self._read_text(np.ascontiguousarray(image[..., ::-1]), use_cls=False)
        if result.txts is None:
            return []
        found = []
        for corners, text, probability in zip(result.boxes, result.txts, result.scores, strict=True):
            long_enough = sum(character.isalnum() for character in text) >= self.settings.min_characters
            if long_enough and probability >= self.settings.min_probability:
                shares = np.asarray(corners, np.float64) / (width, height)
                box = [*shares.min(axis=0).tolist(), *shares.max(axis=0).tolist()]
                found.append({"text": text, "probability": float(probability), "box": box})
        return found


def _summary(texts: list[dict[str, Any]]) -> dict[str, Any]:
    boxes = [text["box"] for text in texts]
    return {
        "texts": texts,
        "num_characters": sum(len(text["text"]) for text in texts),
        "area": sum((right - left) * (bottom - top) for left, top, right, bottom in boxes),
    }
