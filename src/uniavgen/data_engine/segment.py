"""Segments: intervals of a source in which one person who is seen is speaking; every later score is for one of them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from uniavgen.data_engine.stage import StageOutput


@dataclass(frozen=True, kw_only=True)
class SpeechSegment:
    """An interval inside one shot with one speaking face."""

    start_s: float
    end_s: float
    shot: int
    track: int
    """Of the face that speaks."""
    num_faces: int
    """How many faces are seen in more than a tenth of the moments."""
    face_share: float
    """In which part of the moments the speaking face is seen, by detector and mesh."""
    speech_share: float
    """Which part of it is speech."""
    mouth_movement: float
    """Standard deviation of the opening of the mouth over the height of the face."""
    mouth_loudness: float
    """Correlation of the opening with the loudness of the sound, at the best shift up to 100 ms."""

    def values(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)

    @property
    def length_s(self) -> float:
        """Returns its length in seconds."""
        return self.end_s - self.start_s

    def moments(self, count: int) -> list[float]:
        """Returns times in the middle of `count` equal parts."""
        return (self.start_s + (np.arange(count) + 0.5) / count * self.length_s).tolist()


def segments_of(output: StageOutput) -> list[SpeechSegment]:
    """Reads the values of the stage `segments`."""
    return [SpeechSegment(**values) for values in output.values["segments"]]


def grouped_moments(segments: list[SpeechSegment], count: int) -> Iterator[tuple[int, float]]:
    """Yields index and time of `count` moments of each segment. Segments are in order and never overlap."""
    for index, segment in enumerate(segments):
        for time_s in segment.moments(count):
            yield index, time_s
