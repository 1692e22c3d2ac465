"""Little stages that read real files, and films of flashes and beeps, which they understand."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from uniavgen.config import Config, NonNegative, Positive
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio import read_audio
from uniavgen.media.mux import write_clip
from uniavgen.media.probe import probe
from uniavgen.media.video import read_video

RATE_HZ = 24_000


@dataclass(frozen=True, kw_only=True)
class DurationConfig(Config):
    """It has no settings."""


class Duration(Stage):
    """How long a file says that it is."""

    name = "duration"
    settings_class = DurationConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        video = probe(source.path).video
        if video is None:
            return StageOutput(reason="there is no picture track")
        return StageOutput(values={"duration_s": video.duration_s})


@dataclass(frozen=True, kw_only=True)
class LevelConfig(Config):
    """How long a step is."""

    step_s: Positive = 1.0


class Level(Stage):
    """The level of each second."""

    name = "level"
    requires = ("duration",)
    settings_class = LevelConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        waveform = read_audio(source.path, RATE_HZ)
        step = round(self.settings.step_s * RATE_HZ)
        steps = waveform[: len(waveform) // step * step].reshape(-1, step)
        levels = np.sqrt((steps**2).mean(axis=1))
        return StageOutput(values={"num_steps": len(levels)}, arrays={"rms": levels.astype(np.float32)})


@dataclass(frozen=True, kw_only=True)
class BeepsConfig(Config):
    """From which level on there is a beep."""

    threshold: Positive = 0.05


class Beeps(Stage):
    """Each beep is a word, in the place of a transcript."""

    name = "transcript"
    requires = ("duration",)
    settings_class = BeepsConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        waveform = read_audio(source.path, RATE_HZ)
        step = RATE_HZ // 100
        loud = np.abs(waveform[: len(waveform) // step * step]).reshape(-1, step).max(axis=1) > self.settings.threshold
        edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0)) / 100
        words = [
            {"text": f"beep{index}", "start_s": float(start), "end_s": float(end)}
            for index, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True))
        ]
        return StageOutput(values={"words": words, "language": "en"})


@dataclass(frozen=True, kw_only=True)
class HalvesConfig(Config):
    """How much is left out at both ends."""

    margin_s: NonNegative = 0.0


class Halves(Stage):
    """Two candidates, one for each half of a source."""

    name = "segments"
    requires = ("duration", "transcript")
    settings_class = HalvesConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        duration_s, margin_s = inputs["duration"].values["duration_s"], self.settings.margin_s
        halves = [(margin_s, duration_s / 2), (duration_s / 2, duration_s - margin_s)]
        return StageOutput(values={"segments": [{"start_s": start, "end_s": end} for start, end in halves]})


@dataclass(frozen=True, kw_only=True)
class FlashesConfig(Config):
    """From which brightness on there is a flash."""

    threshold: Positive = 230.0


class Flashes(Stage):
    """How much later beeps are than flashes, and how bright each candidate is."""

    name = "sync"
    requires = ("segments", "transcript")
    settings_class = FlashesConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        frames = read_video(source.path, Fraction(100), trim=True).frames
        levels = frames.mean(axis=(1, 2, 3))
        flashes = np.flatnonzero(np.diff((levels > self.settings.threshold).astype(int), prepend=0) > 0) / 100
        beeps = [word["start_s"] for word in inputs["transcript"].values["words"]]
        late_s = float(np.median([min((beep - flash for beep in beeps), key=abs) for flash in flashes]))
        rows = []
        for row in inputs["segments"].values["segments"]:
            frames_between = levels[int(row["start_s"] * 100) : int(row["end_s"] * 100)]
            rows.append({"brightness": float(frames_between.mean()) if len(frames_between) else None})
        return StageOutput(values={"offset_ms": -1000 * late_s, "segments": rows})


STAGES = (Flashes, Halves, Beeps, Level, Duration)
FLASH_S, PERIOD_S, FIRST_S = 0.2, 0.75, 0.3


def write_film(
    path: Path, seconds: float = 2, tone_hz: float = 300, fps: int = 25, late_s: float = 0.0, grey: int = 90
) -> Path:
    """Flashes with a beep each, which comes `late_s` later; the picture is as many pixels as it needs to be cut."""
    flashes = np.arange(FIRST_S, seconds - FLASH_S, PERIOD_S)
    times = np.arange(round(seconds * fps)) / fps
    frames = np.full((len(times), 48, 64, 3), grey, np.uint8)
    for index, time in enumerate(times):
        frames[index, :, index % 64] = 160
        if any(start - 1e-9 <= time < start + FLASH_S - 1e-9 for start in flashes):
            frames[index] = 255
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    num_beeps = sum((time >= start + late_s) & (time < start + late_s + FLASH_S) for start in flashes)
    tone = (0.3 * num_beeps * np.sin(2 * np.pi * tone_hz * time)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames, Fraction(fps), tone, RATE_HZ, {})
    return path
