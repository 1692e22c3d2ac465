"""Good clips corrupted in known ways, to see whether a score falls as it should. [ours]

Letters: F frames, H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.traits import AGES, age_class

SHIFTS_MS = (-400.0, -200.0, -100.0, 100.0, 200.0, 400.0)
OTHER_VOICE_AND_EMOTION = "another voice and emotion"
"""The mismatched pairs of the built-in set: a clip with the sound of such a partner."""
NOISE_LEVEL = 0.1
"""Standard deviation of the noise that replaces sound; speech of the world has about as much."""


@dataclass(frozen=True, kw_only=True)
class ClipAttributes:
    """Who speaks in a clip and how, by which a mismatched partner is chosen."""

    gender: str = ""
    age: str = ""
    emotion: str = ""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "ClipAttributes":
        """Reads what stands beside the truth of a rendered clip; what it lacks stays empty."""
        age = AGES[age_class(float(facts["age"]))] if "age" in facts else ""
        return cls(gender=facts.get("gender", ""), age=age, emotion=facts.get("mood", ""))

    def has_other_voice(self, other: "ClipAttributes") -> bool:
        """Returns whether the voices plainly belong to other people: one of a child, or of the other gender."""
        if "child" in (self.age, other.age):
            return self.age != other.age
        return self.gender != other.gender

    def has_other_emotion(self, other: "ClipAttributes") -> bool:
        """Returns whether the emotions differ."""
        return self.emotion != other.emotion


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """A clip corrupted in one way."""

    name: str
    clip: DecodedClip
    early_ms: float = 0.0
    """How much earlier than in the original the sound comes."""


def corruptions(clip: DecodedClip, others: Mapping[str, Float32[np.ndarray, " samples"]]) -> list[Corruption]:
    """Returns the original, then all corruptions; `others` are sounds of other clips by the name of the mismatch."""
    sound = clip.waveform
    assert sound is not None
    noise = NOISE_LEVEL * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    still = np.repeat(clip.frames[:1], len(clip.frames), axis=0)
    return [
        Corruption(name="truth", clip=clip),
        *(
            Corruption(name=f"sound {ms:+.0f} ms", clip=replace(clip, waveform=shifted(sound, ms)), early_ms=-ms)
            for ms in SHIFTS_MS
        ),
        *(Corruption(name=name, clip=replace(clip, waveform=other)) for name, other in others.items()),
        Corruption(name="noise for sound", clip=replace(clip, waveform=noise)),
        Corruption(name="still picture", clip=replace(clip, frames=still)),
    ]


def mismatched_partners(clips: Sequence[ClipAttributes]) -> dict[str, list[int | None]]:
    """Returns for every clip the index of the next one, of the next with a plainly other voice, in another emotion,
    and with both; None where there is none."""
    conditions: dict[str, Callable[[ClipAttributes, ClipAttributes], bool]] = {
        "sound of the next clip": lambda *_: True,
        "another voice": ClipAttributes.has_other_voice,
        "another emotion": ClipAttributes.has_other_emotion,
        OTHER_VOICE_AND_EMOTION: lambda one, other: one.has_other_voice(other) and one.has_other_emotion(other),
    }
    return {
        name: [_next_where(clips, index, condition) for index in range(len(clips))]
        for name, condition in conditions.items()
    }


def fit_length(waveform: Float32[np.ndarray, " samples"], length: int) -> Float32[np.ndarray, " length"]:
    """Cuts a waveform, or pads it with silence."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def shifted(waveform: Float32[np.ndarray, " samples"], ms: float) -> Float32[np.ndarray, " samples"]:
    """Moves 16 kHz sound later by `ms`, or earlier below 0; same length, silence where nothing is left."""
    samples = round(ms * SPEECH_RATE_HZ / 1000)
    if not samples:
        return waveform
    silence = np.zeros(min(abs(samples), len(waveform)), np.float32)
    return np.concatenate([silence, waveform[:-samples]] if samples > 0 else [waveform[-samples:], silence])


def _next_where(
    clips: Sequence[ClipAttributes], index: int, condition: Callable[[ClipAttributes, ClipAttributes], bool]
) -> int | None:
    others = [(index + step) % len(clips) for step in range(1, len(clips))]
    return next((other for other in others if condition(clips[index], clips[other])), None)
