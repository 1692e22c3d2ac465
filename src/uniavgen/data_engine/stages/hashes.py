"""Perceptual hashes, by which the same pictures are found again in other segments and sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from uniavgen.config import Config
from uniavgen.config.values import PositiveInt
from uniavgen.data_engine.segment import grouped_moments, segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.frame_stream import sample_frames
from uniavgen.media.reader import open_media
from uniavgen.perception.packages import require

_PACKAGES: Final = {"imagehash": "imagehash"}


@dataclass(frozen=True, kw_only=True)
class HashesConfig(Config):
    """Settings of `HashesStage`."""

    frames: PositiveInt = 3
    """A segment. [ours]"""
    short_side_px: PositiveInt = 180
    """Of these frames."""


class HashesStage(Stage):
    """Hashes a few frames of every segment.

    Values: segments, in the order of `segments`, each a list of hashes of 64 bits as 16 hexadecimal digits; pictures
    are alike where few bits differ.
    """

    name = "hashes"
    requires = ("segments", "probe")
    packages = _PACKAGES
    settings_class = HashesConfig
    settings: HashesConfig

    def setup(self) -> None:
        self._imagehash: Any = require("imagehash", "hashes of pictures", "imagehash")

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        segments = segments_of(inputs["segments"])
        left, top, right, bottom = inputs["probe"].values["crop"]
        moments = list(grouped_moments(segments, self.settings.frames))
        hashes: list[list[str]] = [[] for _ in segments]
        with open_media(source.path, quiet=True) as reader:
            frames = sample_frames(reader, [time_s for _, time_s in moments], self.settings.short_side_px)
            for (index, _), frame in zip(moments, frames, strict=False):
                image = Image.fromarray(frame.pixels)
                # Without black bars, which a copy may lack.
                image = image.crop(
                    (
                        round(left * image.width),
                        round(top * image.height),
                        round(right * image.width),
                        round(bottom * image.height),
                    )
                )
                hashes[index].append(str(self._imagehash.phash(image)))
        return StageOutput(values={"segments": hashes})
