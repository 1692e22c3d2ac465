"""The paper's five grades for how well voice and face fit together. [paper, supplement 7]

Timbre is graded by gender and age, emotion by the share of frames that match. A class of a trait counts as plausible if
its probability is at least PLAUSIBLE_RATIO of the most likely class's: only what is ruled out is a mismatch.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float

from uniavgen.perception.traits import AGES, Traits

PLAUSIBLE_RATIO = 0.1
"""A class is plausible if p >= PLAUSIBLE_RATIO * max(p). [ours, measured: docs/evaluation.md]"""
AGE_POSITIONS = np.array([0.0, 1.0, 1.3])
"""AGES on a line, for the distance of two of them. [ours]"""


class Mismatch(IntEnum):
    """How far voice and face are apart in one trait."""

    NONE = 0
    SLIGHT = 1
    MODERATE = 2
    SERIOUS = 3
    TOTAL = 4


MISMATCH_DISTANCES = (0.2, 0.4, 0.6, 0.8)
"""Distances (0 to 1) from which the next mismatch begins. [ours]"""
EMOTION_SHARES = (0.1, 0.35, 0.65, 0.9)
"""Shares of matching frames from which the next grade begins: very few, about half, most, every one. [ours]"""

# Pairs of mismatches, the larger one first. The paper names the first, third, fourth, sixth and the last. [paper]
_TIMBRE_GRADES = {
    (Mismatch.NONE, Mismatch.NONE): 1.0,
    (Mismatch.SLIGHT, Mismatch.NONE): 0.75,
    (Mismatch.SLIGHT, Mismatch.SLIGHT): 0.75,
    (Mismatch.MODERATE, Mismatch.NONE): 0.5,
    (Mismatch.MODERATE, Mismatch.SLIGHT): 0.5,
    (Mismatch.MODERATE, Mismatch.MODERATE): 0.25,
    (Mismatch.SERIOUS, Mismatch.NONE): 0.5,
    (Mismatch.SERIOUS, Mismatch.SLIGHT): 0.25,
    (Mismatch.SERIOUS, Mismatch.MODERATE): 0.0,
    (Mismatch.SERIOUS, Mismatch.SERIOUS): 0.0,
}


def mismatch(distance: float) -> Mismatch:
    """Returns the mismatch for a distance of 0 (alike) to 1 (opposite)."""
    return Mismatch(sum(distance >= limit for limit in MISMATCH_DISTANCES))


def timbre_grade(gender: Mismatch, age: Mismatch) -> float:
    """Returns 1 if both fit, 0.75 if details are off, 0.5 if one is off, 0.25 if one is seriously and the other
    slightly off, 0 if all is wrong.

    The wrong gender or a total mismatch in age gives 0, whatever the other trait says.
    """
    larger, smaller = max(gender, age), min(gender, age)
    return 0.0 if larger is Mismatch.TOTAL else _TIMBRE_GRADES[larger, smaller]


def emotion_grade(share: float) -> float:
    """Returns 1 if every frame matches the voice, 0.75 for most, 0.5 for about half, 0.25 for very few, 0 for none."""
    return sum(share >= limit for limit in EMOTION_SHARES) / 4


def implausibility(probabilities: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*n k"]:
    """Returns 0 for plausible classes, rising linearly to 1 at p = 0: clip(1 - p / (ratio * max(p)), 0, 1)."""
    return np.clip(1 - probabilities / (PLAUSIBLE_RATIO * probabilities.max(axis=-1, keepdims=True)), 0, 1)


def timbre_consistency(voice: Traits, face: Traits) -> float:
    """Returns the best grade over all pairs of an age of the voice and an age of the face.

    Two ages are apart by their distance or their implausibility, whichever is larger. Gender counts if both are grown
    up: a boy sounds like a girl.
    """
    male_voice, male_face = (implausibility(np.array([1 - of.male, of.male])) for of in (voice, face))
    gender = mismatch(float(np.maximum(male_voice, male_face).min()))
    doubts = np.maximum(implausibility(voice.ages)[:, None], implausibility(face.ages))
    ages = np.maximum(np.abs(AGE_POSITIONS[:, None] - AGE_POSITIONS), doubts)
    return max(
        timbre_grade(gender if voice_age and face_age else Mismatch.NONE, mismatch(float(ages[voice_age, face_age])))
        for voice_age in range(len(AGES))
        for face_age in range(len(AGES))
    )


def emotion_consistency(voice: Traits, face: Traits) -> float:
    """Returns the grade of the share of frames that share a plausible emotion with the voice."""
    shared = (implausibility(voice.emotions) == 0) & (implausibility(face.emotions) == 0)
    return emotion_grade(float(shared.any(axis=-1).mean()))
