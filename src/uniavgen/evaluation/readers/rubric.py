"""The paper's five grades for what voice and face say of a person, as pure functions. [paper, supplement 7]

Timbre is graded by gender and age, emotion by the share of frames that match.
"""

from enum import IntEnum


class Gap(IntEnum):
    """How far voice and face are apart in one trait."""

    FINE = 0
    SLIGHT = 1
    OFF = 2
    SERIOUS = 3
    WHOLE = 4


GAPS = (0.2, 0.4, 0.6, 0.8)
"""Distances (0 to 1) from which the next gap begins. [ours]"""
SHARES = (0.1, 0.35, 0.65, 0.9)
"""Shares of matching frames from which the next grade begins: very few, about half, most, every one. [ours]"""

# Pairs of gaps, the wider one first. The paper names the first, third, fourth, sixth and the last of them. [paper]
_TIMBRE = {
    (Gap.FINE, Gap.FINE): 1.0,
    (Gap.SLIGHT, Gap.FINE): 0.75,
    (Gap.SLIGHT, Gap.SLIGHT): 0.75,
    (Gap.OFF, Gap.FINE): 0.5,
    (Gap.OFF, Gap.SLIGHT): 0.5,
    (Gap.OFF, Gap.OFF): 0.25,
    (Gap.SERIOUS, Gap.FINE): 0.5,
    (Gap.SERIOUS, Gap.SLIGHT): 0.25,
    (Gap.SERIOUS, Gap.OFF): 0.0,
    (Gap.SERIOUS, Gap.SERIOUS): 0.0,
}


def gap(distance: float) -> Gap:
    """The gap that a distance of 0 (alike) to 1 (opposite) is."""
    return Gap(sum(distance >= limit for limit in GAPS))


def timbre_grade(gender: Gap, age: Gap) -> float:
    """1 both fit, 0.75 small details off, 0.5 one off, 0.25 one seriously and the other slightly, 0 wholly wrong.

    The wrong gender or a blatant gap in age is 0 whatever the other trait says.
    """
    wide, narrow = max(gender, age), min(gender, age)
    return 0.0 if wide is Gap.WHOLE else _TIMBRE[wide, narrow]


def emotion_grade(share: float) -> float:
    """1 every frame matches the voice, 0.75 most, 0.5 about half, 0.25 very few, 0 none."""
    return sum(share >= limit for limit in SHARES) / 4
