"""Computes how much of a clip each task is given, and the silence behind a reference audio."""

from dataclasses import dataclass
from fractions import Fraction

from uniavgen.tasks.table import ModalityRole, TaskSpec
from uniavgen.timebase import ClipTiming, Timebase

REFERENCE_SILENCE_S = Fraction(3, 10)
"""Silence appended to the reference audio before its mel is taken. [release]"""


@dataclass(frozen=True, kw_only=True)
class GivenLengths:
    """Holds the lengths of the leading parts of the clip that are given."""

    latent_frames: int
    """At least 1: the first latent frame is that of the reference image. [release]"""
    audio_tokens: int


def given_lengths(spec: TaskSpec, timing: ClipTiming, prefix_frames: int) -> GivenLengths:
    """Returns the given lengths of a task.

    prefix_frames: latent frames that a continuation is given; its audio tokens are those that end within them.
    """
    latent_frames = {
        ModalityRole.GENERATED: 1,
        ModalityRole.PREFIX: prefix_frames,
        ModalityRole.GIVEN: timing.num_latent_frames,
    }
    audio_tokens = {
        ModalityRole.GENERATED: 0,
        ModalityRole.PREFIX: timing.tokens_before(prefix_frames),
        ModalityRole.GIVEN: timing.num_audio_tokens,
    }
    return GivenLengths(latent_frames=latent_frames[spec.video], audio_tokens=audio_tokens[spec.audio])


def half_of_clip(timing: ClipTiming) -> int:
    """Returns the latent frames of half a clip, which the continuations of the paper are given."""
    return (timing.num_latent_frames + 1) // 2


def reference_silence_tokens(base: Timebase) -> int:
    """Returns the audio tokens of the silence behind the reference audio."""
    return int(REFERENCE_SILENCE_S * base.tokens_per_second)


def reference_silence_samples(base: Timebase) -> int:
    """Returns the samples of the silence behind the reference audio."""
    return int(REFERENCE_SILENCE_S * base.sample_rate_hz)
