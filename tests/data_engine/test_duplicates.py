"""Duplicates: the same words over the same pictures, never one of the two alone."""

import numpy as np
import pytest

from uniavgen.data_engine.duplicates import DuplicatesConfig, SegmentContent, find_duplicates

SETTINGS = DuplicatesConfig()
TEXT = ["Now,", "of", "course,", "I", "think", "that", "the", "standpoint", "is", "what", "these", "things", "are."]
OTHER = ["This", "is", "unbelievable.", "How", "many", "times", "do", "I", "have", "to", "say", "this?"]


def _hashes(seed, flipped=0):
    rng = np.random.default_rng(seed)
    values = [int(value) for value in rng.integers(0, 2**63, 3)]
    return [f"{value ^ (2**flipped - 1):016x}" for value in values]


@pytest.mark.parametrize(
    ("hashes", "words", "is_duplicate"),
    [
        (_hashes(0), TEXT, True),
        (_hashes(0, flipped=10), [word.upper() for word in TEXT[2:]], True),
        (_hashes(0), OTHER, False),
        (_hashes(1), TEXT, False),
        (_hashes(0, flipped=20), TEXT, False),
        (_hashes(0), TEXT[:4] + OTHER, False),
        (_hashes(0), [], False),
        ([], TEXT, False),
    ],
)
def test_duplicate_has_the_same_words_over_the_same_pictures(hashes, words, is_duplicate):
    segments = {
        ("b", 0): SegmentContent(hashes=hashes, words=words),
        ("a", 3): SegmentContent(hashes=_hashes(0), words=TEXT),
    }
    assert find_duplicates(segments, SETTINGS) == ({("b", 0): ("a", 3)} if is_duplicate else {})


def test_all_copies_repeat_the_first():
    segments = {(key, 0): SegmentContent(hashes=_hashes(0), words=TEXT) for key in "cabd"}
    assert find_duplicates(segments, SETTINGS) == {(key, 0): ("a", 0) for key in "bcd"}
