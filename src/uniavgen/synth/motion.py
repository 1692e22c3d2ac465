"""How a head lives while it speaks: sway, nods on stress, gaze, blinks, and the mood on the face.

Letters: F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uniavgen.synth.arkit import ARKIT, INDEX, both
from uniavgen.synth.moods import Mood
from uniavgen.synth.visemes import Phone, speech_shapes, stressed

# MakeHuman's neutral face looks tired and sour; this is how a neutral mood looks. [ours]
_AT_EASE = np.zeros(len(ARKIT))
for _name, _weight in {**both("eyeWide", 0.22), **both("mouthSmile", 0.14), **both("browOuterUp", 0.1)}.items():
    _AT_EASE[INDEX[_name]] = _weight


@dataclass(frozen=True, kw_only=True)
class Performance:
    """Everything that moves, for all frames."""

    arkit: Float[np.ndarray, "F 52"]
    rotation: Float[np.ndarray, "F 3"]
    """Yaw, pitch, roll of the head in radians."""
    lean: Float[np.ndarray, "F 3"]
    """Shift of the body in mesh units (decimetres)."""


def perform(
    phones: Sequence[Phone],
    mood: Mood,
    strength: float,
    num_frames: int,
    fps: float,
    rng: np.random.Generator,
    movement: float = 1.0,
) -> Performance:
    """Returns face shapes and head pose of a speaker in a mood, frame by frame.

    Everything that the speech does not fix is drawn from `rng`. `movement` scales the movement of the head.
    """
    time = (np.arange(num_frames) + 0.5) / fps
    energy = 1 + strength * (mood.energy - 1)
    speech = speech_shapes(phones, num_frames, fps, openness=rng.uniform(1.45, 1.7) * (0.85 + 0.15 * energy))
    arkit = speech.astype(np.float64) + _AT_EASE
    _add_mood(arkit, mood, strength, time, rng)
    nods = _nods(phones, time, energy, rng)
    arkit[:, INDEX["browInnerUp"]] += 6.0 * np.abs(nods) * (mood.name != "angry")
    rotation = movement * energy * _sway(time, np.array([0.035, 0.018, 0.014]), rng)
    rotation += rng.normal(0, [0.13, 0.05, 0.035])
    rotation[:, 1] += movement * nods + strength * mood.pitch_down
    _add_gaze(arkit, rotation, time, rng)
    _add_blinks(arkit, time, rng)
    lean = movement * _sway(time, np.array([0.018, 0.012, 0.018]), rng)
    return Performance(
        arkit=np.clip(arkit, 0, 1).astype(np.float32),
        rotation=rotation.astype(np.float32),
        lean=lean.astype(np.float32),
    )


def _add_mood(arkit: np.ndarray, mood: Mood, strength: float, time: np.ndarray, rng: np.random.Generator) -> None:
    swell = 1 + 0.12 * np.sin(2 * np.pi * time * rng.uniform(0.2, 0.5) + rng.uniform(0, 6))
    # A rounded or closed mouth leaves less of a smile or frown.
    rounded = np.clip(arkit[:, INDEX["mouthPucker"]] + 0.6 * arkit[:, INDEX["mouthFunnel"]], 0, 1)
    for name, weight in mood.face.items():
        room = 1 - 0.55 * rounded if name.startswith("mouth") else 1.0
        arkit[:, INDEX[name]] += strength * weight * swell * room


def _nods(phones: Sequence[Phone], time: np.ndarray, energy: float, rng: np.random.Generator) -> np.ndarray:
    nods = np.zeros_like(time)
    for moment in stressed(phones):
        if rng.random() < 0.6:
            nods += rng.uniform(0.01, 0.03) * energy * np.exp(-(((time - moment - 0.06) / 0.11) ** 2))
    return nods


def _sway(time: np.ndarray, size: Float[np.ndarray, " 3"], rng: np.random.Generator) -> Float[np.ndarray, "F 3"]:
    waves = np.zeros((len(time), 3))
    for low, high, share in ((0.1, 0.3, 0.7), (0.3, 0.7, 0.4), (0.8, 1.4, 0.12)):
        waves += share * np.sin(2 * np.pi * time[:, None] * rng.uniform(low, high, 3) + rng.uniform(0, 2 * np.pi, 3))
    return waves * size


def _add_gaze(arkit: np.ndarray, rotation: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> None:
    """Looks at the camera most of the time, with short glances aside; eyes counter the head's turn."""
    across, up = -1.6 * rotation[:, 0], 1.2 * rotation[:, 1]
    moment = rng.exponential(1.5)
    while moment < time[-1]:
        length = rng.uniform(0.25, 0.8)
        away = (time >= moment) & (time < moment + length)
        across = across + away * rng.normal(0, 0.45)
        up = up + away * rng.normal(0, 0.25)
        moment += length + rng.exponential(2.0)
    for side, sign in (("Left", 1), ("Right", -1)):
        arkit[:, INDEX[f"eyeLookOut{side}"]] += np.clip(sign * across, 0, 0.9)
        arkit[:, INDEX[f"eyeLookIn{side}"]] += np.clip(-sign * across, 0, 0.9)
        arkit[:, INDEX[f"eyeLookUp{side}"]] += np.clip(up, 0, 0.7)
        arkit[:, INDEX[f"eyeLookDown{side}"]] += np.clip(-up, 0, 0.7)


def _add_blinks(arkit: np.ndarray, time: np.ndarray, rng: np.random.Generator) -> None:
    moment = rng.uniform(0.3, 2.5)
    while moment < time[-1]:
        shut = np.clip(1.4 - np.abs(time - moment) / 0.085, 0, 1)
        for side in ("Left", "Right"):
            column = arkit[:, INDEX[f"eyeBlink{side}"]]
            np.maximum(column, shut, out=column)
        moment += rng.uniform(1.4, 4.2)
