"""How long a text takes to be spoken, and whether a clip is long enough for it.

Seconds are estimated from the number of characters, s = n / r, with the rate r of the text's language.
"""

import math
from dataclasses import dataclass

from uniavgen.codecs.typography import is_latin
from uniavgen.errors import ConfigError
from uniavgen.inference.request import MAX_FRAMES
from uniavgen.tasks.table import TASKS, ModalityRole, Task
from uniavgen.timebase import ClipTiming, Timebase

MAX_EXCESS = 1.5
"""A speech whose usual duration is more than this many clips is refused. [ours]"""
MIN_EXCESS_S = 0.75
"""A shorter excess is only warned of: the duration of a word or two is not known any better. [ours]"""


@dataclass(frozen=True, kw_only=True)
class SpeechRate:
    """Characters per second of one language, blanks and punctuation included."""

    usual: float
    """Median."""
    fast: float
    """95th percentile."""


ENGLISH = SpeechRate(usual=15.9, fast=19.0)
"""Over the 1,490 recorded utterances that synthetic clips are rendered with (28 voices), from the first to the last
phone; the 5th percentile is 12.6. [ours]"""


def speech_rate(text: str) -> SpeechRate | None:
    """Returns the rate at which a text is spoken; None for scripts whose rate was not measured."""
    return ENGLISH if is_latin(text) else None


def check_speech_fits(speech: str, task: Task, timing: ClipTiming) -> str | None:
    """Returns a warning where a clip is too short for its speech even when it is spoken fast, None where it is not.

    speech: the words that are spoken, figures and signs spelled out. Raises ConfigError where the speech takes more
    than MAX_EXCESS times the clip, and MIN_EXCESS_S longer, at the usual rate.
    """
    rate, clip_s = speech_rate(speech), float(timing.duration_s)
    if rate is None or len(speech) / rate.fast <= clip_s:
        return None
    seconds = len(speech) / rate.usual
    estimate = f"the speech takes about {seconds:.1f} s, the clip lasts {clip_s:.2f} s"
    advice = _advice(seconds, task, timing)
    if seconds > max(MAX_EXCESS * clip_s, clip_s + MIN_EXCESS_S):
        raise ConfigError(f"{estimate}; {advice}")
    return f"{estimate}, so it will be hurried; {advice}"


def fitting_frames(seconds: float, base: Timebase) -> int | None:
    """Returns the length of the shortest clip, in frames, that lasts so long; None where no clip does."""
    num_frames = base.frames_in(base.latent_frames(math.ceil(seconds * base.fps)))
    return num_frames if num_frames <= MAX_FRAMES else None


def _advice(seconds: float, task: Task, timing: ClipTiming) -> str:
    spec, base = TASKS[task], timing.base
    if ModalityRole.GIVEN in (spec.video, spec.audio):
        given = "video" if spec.video is ModalityRole.GIVEN else "recording"
        return f"shorten it, or use a longer {given}"
    num_frames = fitting_frames(seconds, base)
    if num_frames is None:
        return f"shorten it, since no clip is longer than {MAX_FRAMES} frames"
    return f"shorten it, or use --num-frames {num_frames}, which would fit"
