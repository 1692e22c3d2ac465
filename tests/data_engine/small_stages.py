"""Little stages that read real files: durations, and how loud each second is."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from uniavgen.config import Config, Positive
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.media.audio import read_audio
from uniavgen.media.mux import write_clip
from uniavgen.media.probe import probe

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


def write_film(path: Path, seconds: int = 2, seed: int = 0, fps: int = 25) -> Path:
    """A moving bar, and a tone."""
    rng = np.random.default_rng(seed)
    frames = np.full((seconds * fps, 48, 64, 3), rng.integers(40, 200, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % 64] = 255
    time = np.arange(seconds * RATE_HZ) / RATE_HZ
    tone = (0.2 * np.sin(2 * np.pi * (200 + 50 * seed) * time)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(path, frames, Fraction(fps), tone, RATE_HZ, {})
    return path
