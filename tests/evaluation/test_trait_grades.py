"""The paper's five grades as a table."""

import pytest

from uniavgen.evaluation.trait_grades import Mismatch, emotion_grade, mismatch, timbre_grade

FINE, SLIGHT, OFF, SERIOUS, WHOLE_SYSTEM = Mismatch


@pytest.mark.parametrize(
    ("gender", "age", "grade"),
    [
        (FINE, FINE, 1.0),
        (FINE, SLIGHT, 0.75),
        (SLIGHT, SLIGHT, 0.75),
        (FINE, OFF, 0.5),
        (OFF, FINE, 0.5),
        (SERIOUS, SLIGHT, 0.25),
        (SLIGHT, SERIOUS, 0.25),
        (SERIOUS, SERIOUS, 0.0),
        (WHOLE_SYSTEM, FINE, 0.0),
        (FINE, WHOLE_SYSTEM, 0.0),
    ],
)
def test_timbre_follows_the_papers_words(gender, age, grade):
    assert timbre_grade(gender, age) == grade


def test_wider_gap_never_grades_better():
    for gender in Mismatch:
        for age in Mismatch:
            assert timbre_grade(gender, age) == timbre_grade(age, gender)
            if age < WHOLE_SYSTEM:
                assert timbre_grade(gender, Mismatch(age + 1)) <= timbre_grade(gender, age)


@pytest.mark.parametrize(
    ("share", "grade"), [(0.0, 0.0), (0.05, 0.0), (0.2, 0.25), (0.5, 0.5), (0.8, 0.75), (0.95, 1.0), (1.0, 1.0)]
)
def test_emotion_is_graded_by_the_share_of_frames(share, grade):
    assert emotion_grade(share) == grade


def test_distances_become_gaps_in_order():
    assert [mismatch(distance) for distance in (0.0, 0.2, 0.5, 0.7, 1.0)] == list(Mismatch)
