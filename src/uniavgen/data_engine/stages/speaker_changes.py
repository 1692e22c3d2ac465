"""When another person begins to speak, by the voices before and after each moment.

Letters: n windows, d numbers of an embedding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32

from uniavgen.config import Config
from uniavgen.config.values import Positive, PositiveInt
from uniavgen.data_engine.cutting import Interval
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio_stream import cut_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.speaker import SPEAKER_PACKAGES, SpeakerEncoder


@dataclass(frozen=True, kw_only=True)
class SpeakerChangesConfig(Config):
    """Settings of `SpeakerChangesStage`."""

    step_s: Positive = 0.5
    """Speech between the beginnings of neighbouring windows. [ours]"""
    steps: PositiveInt = 3
    """Of a window; voices of shorter ones are unsure. [ours]"""
    change_distance: Positive = 0.55
    """1 - cosine of the windows on both sides of a moment from which the voice may change there. [ours, measured]"""
    same_distance: Positive = 0.62
    """1 - cosine of the mean voices of neighbouring parts below which they are one person's. [ours, measured]"""
    pause_s: Positive = 0.75
    """A change is put into a pause that is as near as this. [ours]"""


class SpeakerChangesStage(Stage):
    """Embeds short windows of the speech, pauses left out, and splits it where the voice before and after differ.

    Values: changes (time_s, distance: 1 - cosine of the mean voices of the parts that meet there), in order.
    """

    name = "speaker_changes"
    requires = ("voice_activity",)
    required_networks = ("speaker",)
    packages = SPEAKER_PACKAGES
    settings_class = SpeakerChangesConfig
    settings: SpeakerChangesConfig

    def setup(self) -> None:
        self._encoder = SpeakerEncoder(self.context.weights["speaker"].path)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        speech: list[Interval] = [(a, b) for a, b in inputs["voice_activity"].values["speech"]]
        voices = np.array(list(self._voices(source, speech)), np.float32)
        settings = self.settings
        found = voice_changes(voices, settings.steps, settings.change_distance, settings.same_distance)
        changes = [
            {
                "time_s": round(place_of_change(speech, index * settings.step_s, settings.pause_s), 3),
                "distance": round(distance, 4),
            }
            for index, distance in found
        ]
        return StageOutput(values={"changes": changes})

    def _voices(self, source: SourceVideo, speech: Sequence[Interval]) -> Iterator[Float[np.ndarray, " d"]]:
        """Yields the voice of each window that is full of speech, one every step."""
        step = round(self.settings.step_s * SPEECH_RATE_HZ)
        buffered: Float32[np.ndarray, " samples"] = np.zeros(0, np.float32)
        with open_media(source.path, quiet=True) as reader:
            for waveform in cut_audio(reader, SPEECH_RATE_HZ, speech):
                buffered = np.concatenate([buffered, waveform])
                while len(buffered) >= step * self.settings.steps:
                    yield self._encoder.embed(buffered[: step * self.settings.steps])
                    buffered = buffered[step:]


def voice_changes(
    voices: Float[np.ndarray, "n d"], steps: int, change_distance: float, same_distance: float
) -> list[tuple[int, float]]:
    """Returns the steps before which the voice changes, with the distance of the mean voices on both sides.

    Window i covers steps i to i + `steps`. Speech is split wherever the two windows that meet differ most, then the
    parts whose mean voices are nearest are joined until all neighbours differ.
    """
    edges = [0, *_peaks(voices, steps, change_distance), len(voices) - 1 + steps]
    if len(voices) < 2:
        return []
    while True:
        means = [_mean(voices[a : max(b - steps, a) + 1]) for a, b in pairwise(edges)]
        distances = [float(1 - a @ b) for a, b in pairwise(means)]
        if not distances or min(distances) >= same_distance:
            return list(zip(edges[1:-1], distances, strict=True))
        del edges[int(np.argmin(distances)) + 1]


def place_of_change(speech: Sequence[Interval], at_s: float, pause_s: float) -> float:
    """Returns the moment at which `at_s` seconds of speech are over, moved into a pause that is near."""
    passed_s, time_s = 0.0, 0.0
    for start_s, end_s in speech:
        time_s = min(start_s + at_s - passed_s, end_s)
        passed_s += end_s - start_s
        if passed_s >= at_s:
            break
    pauses = [(a + b) / 2 for (_, a), (b, _) in pairwise(speech) if a - pause_s <= time_s <= b + pause_s]
    return min(pauses, key=lambda middle: abs(middle - time_s), default=time_s)


def _peaks(voices: Float[np.ndarray, "n d"], steps: int, change_distance: float) -> list[int]:
    """Returns the steps at which neighbouring windows differ most within a window's length."""
    distances = 1 - (voices[:-steps] * voices[steps:]).sum(axis=1) if len(voices) > steps else np.zeros(0)
    peaks = []
    for index, distance in enumerate(distances):
        around = distances[max(index - steps + 1, 0) : index + steps]
        if distance >= change_distance and int(np.argmax(around)) == index - max(index - steps + 1, 0):
            peaks.append(index + steps)
    return peaks


def _mean(voices: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    total = voices.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-6)
