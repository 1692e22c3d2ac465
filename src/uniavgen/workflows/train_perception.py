"""Trains the perception networks of our own on rendered clips, and measures them on others."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeVar

from torch import nn

from uniavgen.arguments import check_arguments
from uniavgen.artifacts import check_writable, exclusive_output
from uniavgen.config import parse
from uniavgen.data.rendered import RenderedSample, count_rendered, rendered_samples
from uniavgen.errors import ConfigError
from uniavgen.evaluation.reader_benchmark import (
    Numbers,
    benchmark_face_locator,
    benchmark_lip_sync,
    benchmark_traits,
    benchmark_voice_traits,
)
from uniavgen.perception.face_locator import FaceLocator
from uniavgen.perception.loading import save_own
from uniavgen.perception.traits import VoiceTraitClassifier
from uniavgen.synth import WorldSettings, check_material
from uniavgen.synth.generate import open_world
from uniavgen.training.loop import Callback
from uniavgen.training.perception.face_locator import FaceMaskDataset, train_face_locator
from uniavgen.training.perception.lip_sync import LipSyncDataset, train_lip_sync
from uniavgen.training.perception.run import PerceptionTrainConfig
from uniavgen.training.perception.traits import (
    FaceTraitDataset,
    VoiceTraitDataset,
    train_face_traits,
    train_voice_traits,
    world_voices,
)

T = TypeVar("T")
OnProgress = Callable[[str, int, int], None]
"""Called with the phase (read, hear, train, measure), the count of finished items and their total."""
Train = Callable[[PerceptionTrainConfig, int, Sequence[Callback]], nn.Module]
Benchmark = Callable[[nn.Module, Iterable[RenderedSample]], Mapping[str, Numbers]]


class PerceptionNetwork(StrEnum):
    """Which network, as the command line names it."""

    FACE_LOCATOR = "locator"
    LIP_SYNC = "sync"
    FACE_TRAITS = "face"
    VOICE_TRAITS = "voice"


DEFAULT_STEPS = {
    PerceptionNetwork.FACE_LOCATOR: 400,
    PerceptionNetwork.LIP_SYNC: 600,
    PerceptionNetwork.FACE_TRAITS: 6000,
    PerceptionNetwork.VOICE_TRAITS: 2500,
}
PEOPLE_PER_VOICE = 400
"""So many that hardly any of them speaks twice."""


@dataclass(frozen=True, kw_only=True)
class PerceptionJob:
    """One network to train. Raises ConfigError where its material is missing or superfluous."""

    network: PerceptionNetwork
    held_out: str
    """Folder of rendered clips to measure it on."""
    out: Path
    data: Sequence[str] = ()
    """Folders of rendered clips to train on; voices are synthesised instead."""
    num_voices: int = 3000
    world: WorldSettings | None = None
    """Material of the voices; its split and people are fixed."""
    held_out_clips: int = 100
    steps: int | None = None
    """Of each part of the training; None is the network's default."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_arguments(self)
        check_writable(self.out, (".safetensors",))
        if (self.network is PerceptionNetwork.VOICE_TRAITS) == bool(self.data):
            raise ConfigError(
                "a voice reader learns from --voices of the world, every other reader from --data folders"
            )


def train_perception(
    job: PerceptionJob, on_progress: OnProgress = lambda _phase, _done, _total: None
) -> Mapping[str, Numbers]:
    """Trains a network, writes it, and returns how well it does on the held-out clips.

    Faces are found with the package's locator; a face classifier is measured against the package's voice classifier.
    """
    with exclusive_output(job.out):
        return _train_and_write(job, on_progress)


def _train_and_write(job: PerceptionJob, on_progress: OnProgress) -> Mapping[str, Numbers]:
    steps = DEFAULT_STEPS[job.network] if job.steps is None else job.steps
    config = parse(PerceptionTrainConfig, {"steps": steps}, origin="training")
    count = count_rendered([job.held_out], job.held_out_clips)
    benchmark = _benchmark(job.network)
    if job.network is PerceptionNetwork.VOICE_TRAITS:
        train = _voice_training(job, on_progress)
    else:
        train = _clip_training(job, on_progress)
    # The lip sync encoder is trained in two parts.
    done, total = itertools.count(1), config.steps * (2 if job.network is PerceptionNetwork.LIP_SYNC else 1)
    network = train(config, job.seed, [lambda _record, _state: on_progress("train", next(done), total)])
    held_out = rendered_samples([job.held_out], job.held_out_clips)
    numbers = benchmark(network, _counted(held_out, count, partial(on_progress, "measure")))
    save_own(network, job.out, {"steps": str(config.steps), "seed": str(job.seed)})
    return numbers


def _clip_training(job: PerceptionJob, on_progress: OnProgress) -> Train:
    clips = _counted(rendered_samples(job.data), count_rendered(job.data), partial(on_progress, "read"))
    match job.network:
        case PerceptionNetwork.FACE_LOCATOR:
            return partial(train_face_locator, FaceMaskDataset.from_clips(clips))
        case PerceptionNetwork.LIP_SYNC:
            dataset = LipSyncDataset.from_clips(clips)
            return lambda config, seed, callbacks: train_lip_sync(dataset, config, config, seed, callbacks)
        case _:
            return partial(train_face_traits, FaceTraitDataset.from_clips(clips))


def _voice_training(job: PerceptionJob, on_progress: OnProgress) -> Train:
    material = job.world or WorldSettings()
    settings = WorldSettings(
        split="train", people_per_voice=PEOPLE_PER_VOICE, speech=material.speech, heads=material.heads
    )
    check_material(settings)
    voices = world_voices(open_world(settings), job.seed, job.num_voices)
    counted = _counted(voices, job.num_voices, partial(on_progress, "hear"))
    return partial(train_voice_traits, VoiceTraitDataset.from_waveforms(counted))


def _benchmark(network: PerceptionNetwork) -> Benchmark:
    """Returns how a network is measured, with the others that this takes."""
    if network is PerceptionNetwork.FACE_LOCATOR:
        return lambda locator, clips: benchmark_face_locator(locator, clips)
    if network is PerceptionNetwork.VOICE_TRAITS:
        return lambda voices, clips: benchmark_voice_traits(voices, clips)
    locator = FaceLocator.load()
    if network is PerceptionNetwork.LIP_SYNC:
        return lambda encoder, clips: benchmark_lip_sync(encoder, locator, clips)
    voices = VoiceTraitClassifier.load()
    return lambda faces, clips: benchmark_traits(faces, voices, locator, clips)


def _counted(items: Iterable[T], total: int, on_progress: Callable[[int, int], None]) -> Iterator[T]:
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(done, total)
