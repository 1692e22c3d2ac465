"""Clips that are as they should be, spoilt in known ways, to see whether a score falls as it should. [ours]

Letters: F frames, H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.readers.traits import AGES, age_of

SHIFTS_MS = (-400.0, -200.0, -100.0, 100.0, 200.0, 400.0)
TWIN = "another voice and emotion"
"""The partner whose sound a twin of the built-in set has."""
NOISE_LEVEL = 0.1
"""Deviation of the noise that takes the place of sound; speech of the world has about as much."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is true of a clip, and what a wrong partner for it is chosen by."""

    gender: str = ""
    age: str = ""
    emotion: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Known":
        """Out of what stands beside the truth of a rendered clip; what it does not say stays empty."""
        age = AGES[age_of(float(facts["age"]))] if "age" in facts else ""
        return cls(gender=facts.get("gender", ""), age=age, emotion=facts.get("mood", ""))

    def has_other_voice(self, other: "Known") -> bool:
        """Whether the voices blatantly belong to other people: one of a child, or of the other gender."""
        if "child" in (self.age, other.age):
            return self.age != other.age
        return self.gender != other.gender

    def has_other_emotion(self, other: "Known") -> bool:
        return self.emotion != other.emotion


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    """One way to spoil a clip."""

    name: str
    clip: Clip
    early_ms: float = 0.0
    """How much earlier than in the clip as it was the sound comes."""


def spoilt(clip: Clip, others: Mapping[str, Float32[np.ndarray, " samples"]]) -> list[Spoilt]:
    """The clip as it is first, then every way; `others` are sounds of other clips by what makes them wrong."""
    sound = clip.waveform
    assert sound is not None
    noise = NOISE_LEVEL * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    return [
        Spoilt(name="truth", clip=clip),
        *(
            Spoilt(name=f"sound {ms:+.0f} ms", clip=replace(clip, waveform=shifted(sound, ms)), early_ms=-ms)
            for ms in SHIFTS_MS
        ),
        *(Spoilt(name=name, clip=replace(clip, waveform=other)) for name, other in others.items()),
        Spoilt(name="noise for sound", clip=replace(clip, waveform=noise)),
        Spoilt(name="still picture", clip=replace(clip, frames=np.repeat(clip.frames[:1], len(clip.frames), axis=0))),
    ]


def partners(known: Sequence[Known]) -> dict[str, list[int | None]]:
    """For every clip the next one, the next with a blatantly other voice, in another emotion, and with both."""
    ways: dict[str, Callable[[Known, Known], bool]] = {
        "sound of the next clip": lambda *_: True,
        "another voice": Known.has_other_voice,
        "another emotion": Known.has_other_emotion,
        TWIN: lambda own, other: own.has_other_voice(other) and own.has_other_emotion(other),
    }
    return {name: [_next(known, place, differs) for place in range(len(known))] for name, differs in ways.items()}


def as_long(waveform: Float32[np.ndarray, " samples"], length: int) -> Float32[np.ndarray, " length"]:
    """Cut, or filled up with silence."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def shifted(waveform: Float32[np.ndarray, " samples"], ms: float) -> Float32[np.ndarray, " samples"]:
    """16 kHz sound that comes `ms` later, or earlier below 0; as long as before, with silence where nothing is left."""
    by = round(ms * SPEECH_RATE_HZ / 1000)
    if not by:
        return waveform
    silence = np.zeros(min(abs(by), len(waveform)), np.float32)
    return np.concatenate([silence, waveform[:-by]] if by > 0 else [waveform[-by:], silence])


def _next(known: Sequence[Known], place: int, differs: Callable[[Known, Known], bool]) -> int | None:
    others = [(place + step) % len(known) for step in range(1, len(known))]
    return next((other for other in others if differs(known[place], known[other])), None)
