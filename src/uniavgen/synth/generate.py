"""Many clips in order, drawn by as many processes as asked."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from uniavgen.arguments import check_arguments
from uniavgen.errors import ConfigError
from uniavgen.synth.assets import cache_folder, find_heads, find_speech, find_voices
from uniavgen.synth.clip import RenderedClip
from uniavgen.synth.head_data import load_head_data
from uniavgen.synth.renderer import Art
from uniavgen.synth.speech import RecordedSpeech, SpeechSource, check_split
from uniavgen.synth.world import SpokenClip, SyntheticWorld
from uniavgen.timebase import Timebase

Clip = TypeVar("Clip", RenderedClip, SpokenClip)

MAX_FRAMES = 9601
"""Ten minutes at 16 frames a second. [ours]"""
MAX_JOBS = 256
MAX_PEOPLE_PER_VOICE = 10_000


@dataclass(frozen=True, kw_only=True)
class WorldSettings:
    """What a world is made of. Folders that are None are found as `assets` says."""

    source: str = "made"
    """made (speech made ahead), kokoro or flite."""
    split: str = "all"
    """train, val or all: which sentences occur."""
    size: int = 128
    """Pixels a side."""
    num_frames: int = 81
    people_per_voice: int = 8
    art: Art = Art.SHADED
    movement: float = 1.0
    """How much heads, camera and backgrounds move, times the usual; at 0 only faces do."""
    heads: Path | None = None
    voices: Path | None = None
    speech: Path | None = None

    def __post_init__(self) -> None:
        check_arguments(self)
        check_split(self.split)
        if not 1 <= self.num_frames <= MAX_FRAMES:
            raise ConfigError(f"clips have 1 to {MAX_FRAMES} frames, got {self.num_frames}")
        if not 1 <= self.people_per_voice <= MAX_PEOPLE_PER_VOICE:
            raise ConfigError(f"1 to {MAX_PEOPLE_PER_VOICE} people share a voice, got {self.people_per_voice}")
        if not 32 <= self.size <= 1024 or self.size % 2:
            raise ConfigError(f"clips are 32 to 1024 pixels a side and even, got {self.size}")
        if not 0 <= self.movement <= 2:
            raise ConfigError(f"movement is 0 (only faces move) to 2 times the usual, got {self.movement}")
        if self.source not in ("made", "kokoro", "flite"):
            raise ConfigError(f"the speech source is made, kokoro or flite, got '{self.source}'")


def open_speech(settings: WorldSettings) -> SpeechSource:
    """Returns the speech source that the settings name."""
    if settings.source == "made":
        return RecordedSpeech(find_speech(settings.speech), settings.split)
    from uniavgen.synth.voices import FliteSpeech, KokoroSpeech

    if settings.source == "kokoro":
        return KokoroSpeech(find_voices(settings.voices), settings.split)
    return FliteSpeech(settings.split)


def check_jobs(jobs: int) -> None:
    """Raises ConfigError unless `jobs` processes can be started."""
    if not 1 <= jobs <= MAX_JOBS:
        raise ConfigError(f"the work is done by 1 to {MAX_JOBS} processes, got {jobs}")


def check_material(settings: WorldSettings) -> None:
    """Raises DataError or ConfigError when heads or speech are missing; quick, and before anything is written."""
    find_heads(settings.heads)
    open_speech(settings)


def open_world(settings: WorldSettings) -> SyntheticWorld:
    """Opens a world that draws clips in this process. Raises DataError or ConfigError where material is missing."""
    return SyntheticWorld(
        load_head_data(find_heads(settings.heads), cache_folder()),
        open_speech(settings),
        settings.size,
        Timebase().clip(settings.num_frames),
        settings.people_per_voice,
        settings.art,
        settings.movement,
    )


def generate(seed: int, numbers: Iterable[int], settings: WorldSettings, jobs: int = 1) -> Iterator[RenderedClip]:
    """Renders clips of the world `seed` in the order of `numbers`; they are the same whatever `jobs`."""
    yield from _run_jobs(SyntheticWorld.render_clip, seed, numbers, settings, jobs)


def speak(seed: int, numbers: Iterable[int], settings: WorldSettings, jobs: int = 1) -> Iterator[SpokenClip]:
    """Returns the audio and transcripts of the clips that `generate` returns, without drawing them."""
    yield from _run_jobs(SyntheticWorld.speak_clip, seed, numbers, settings, jobs)


def _run_jobs(
    make: Callable[[SyntheticWorld, int, int], Clip],
    seed: int,
    numbers: Iterable[int],
    settings: WorldSettings,
    jobs: int,
) -> Iterator[Clip]:
    numbers = list(numbers)
    check_jobs(jobs)
    if not numbers:
        return
    if jobs == 1:
        world = open_world(settings)
        for number in numbers:
            yield make(world, seed, number)
        return
    # "spawn", because an OpenGL context does not survive a fork.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(_make_in_worker, make, seed, settings), numbers)


def _make_in_worker(
    make: Callable[[SyntheticWorld, int, int], Clip], seed: int, settings: WorldSettings, number: int
) -> Clip:
    return make(_world_of_process(settings), seed, number)


@lru_cache(maxsize=1)
def _world_of_process(settings: WorldSettings) -> SyntheticWorld:
    """Returns the world of this process: meshes are parsed and the renderer is opened once, not once a clip."""
    return open_world(settings)
