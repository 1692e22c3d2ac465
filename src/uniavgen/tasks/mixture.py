"""Draws the task of a training step, and how much of the clip is given. Pure functions of random numbers."""

from dataclasses import dataclass, field

import numpy as np

from uniavgen.config import Config, NonNegative, Positive, Probability, Share
from uniavgen.errors import ConfigError
from uniavgen.tasks.given_lengths import given_lengths
from uniavgen.tasks.table import TASKS, ReferenceAudio, Task
from uniavgen.timebase import ClipTiming


@dataclass(frozen=True, kw_only=True)
class MixtureConfig(Config):
    """Sets how often a stage trains each task, and the lengths of what is given."""

    ratios: dict[Task, NonNegative] = field(
        default_factory=lambda: {task: float(spec.ratio) for task, spec in TASKS.items()}
    )
    """Relative frequency of each task; one that is missing is not trained. [paper 4.1: 4:1:1:2:2]"""
    continuation: tuple[Share, Share] = (0.2, 0.6)
    """Fraction of the clip's latent frames that a continuation is given, uniform. [ours; the paper shows one half]"""
    reference_s: tuple[Positive, Positive] = (1.0, 3.0)
    """Seconds of reference audio without its silence, uniform. [Harmony]"""
    allowed_reference: Probability = 0.5
    """Probability of reference audio in a task that allows but does not need it. [ours]"""

    def __post_init__(self) -> None:
        if not any(self.ratios.values()):
            raise ConfigError(f"at least one task needs a ratio above 0, got {self.ratios}")
        if not self.continuation[0] <= self.continuation[1] < 1:
            raise ConfigError(f"continuation must be an increasing pair inside (0, 1), got {self.continuation}")
        if self.reference_s[0] > self.reference_s[1]:
            raise ConfigError(f"reference_s must be an increasing pair above 0, got {self.reference_s}")


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """Holds task and lengths of one step, which all its samples share so that their tensors can be stacked."""

    task: Task
    given_frames: int
    """Leading latent frames of the clip that are given, the first one included."""
    given_tokens: int
    """Leading audio tokens that are given."""
    reference_tokens: int
    """Audio tokens of reference audio without its silence; 0 without reference audio."""


def step_generator(seed: int, step: int, stream: int = 0) -> np.random.Generator:
    """Returns the random generator of one step: the same on all ranks and after a resume.

    stream: separates generators with different purposes.
    """
    return np.random.default_rng((seed, step, stream))


def sample_step(config: MixtureConfig, timing: ClipTiming, rng: np.random.Generator) -> StepSpec:
    """Draws the task of a step by its ratio, and the lengths of what it is given."""
    # Four numbers whatever the task, so that the generator's state after a step does not depend on the task.
    uniform_task, uniform_given, uniform_allowed, uniform_reference = rng.random(4)
    task = _by_ratio(config.ratios, uniform_task)
    spec = TASKS[task]
    prefix = continuation_frames(config, timing, uniform_given)
    has_reference = spec.reference_audio is ReferenceAudio.NEEDED or (
        spec.reference_audio is ReferenceAudio.ALLOWED and uniform_allowed < config.allowed_reference
    )
    given = given_lengths(spec, timing, prefix)
    return StepSpec(
        task=task,
        given_frames=given.latent_frames,
        given_tokens=given.audio_tokens,
        reference_tokens=reference_tokens(config, timing, uniform_reference) if has_reference else 0,
    )


def continuation_frames(config: MixtureConfig, timing: ClipTiming, uniform: float) -> int:
    """Returns how many latent frames a continuation is given: at least one and not all; `uniform` in [0, 1)."""
    low, high = config.continuation
    frames = round((low + (high - low) * uniform) * timing.num_latent_frames)
    return min(max(frames, 1), timing.num_latent_frames - 1)


def reference_tokens(config: MixtureConfig, timing: ClipTiming, uniform: float) -> int:
    """Returns the number of audio tokens of reference audio; `uniform` in [0, 1)."""
    low, high = config.reference_s
    return max(round((low + (high - low) * uniform) * timing.base.tokens_per_second), 1)


def _by_ratio(ratios: dict[Task, float], uniform: float) -> Task:
    """Returns the task in whose part of the cumulative ratios `uniform` in [0, 1) falls."""
    tasks = [task for task in Task if ratios.get(task, 0) > 0]
    edges = np.cumsum([ratios[task] for task in tasks])
    return tasks[int(np.searchsorted(edges, uniform * edges[-1], side="right"))]
