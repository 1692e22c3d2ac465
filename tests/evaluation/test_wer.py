"""Word error rate: the counting, and the way out without Whisper."""

from importlib.util import find_spec

import pytest

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.wer import WordErrorRate, word_error_rate, words
from uniavgen.timebase import Timebase


@pytest.mark.parametrize(
    ("heard", "expected", "rate"),
    [
        ("the cat sat", "the cat sat", 0),
        ("the bat sat", "the cat sat", 1 / 3),
        ("the sat", "the cat sat", 1 / 3),
        ("the big cat sat", "the cat sat", 1 / 3),
        ("", "the cat sat", 1),
        ("a b c d", "x", 4),
    ],
)
def test_rate_counts_insertions_deletions_and_substitutions(heard, expected, rate):
    assert word_error_rate(heard.split(), expected.split()) == pytest.approx(rate)


def test_words_drop_case_and_punctuation():
    assert words("It's a FINE, fine-day!") == ["its", "a", "fine", "fine", "day"]


def test_nothing_to_say_is_not_measured():
    with pytest.raises(NotMeasured):
        word_error_rate(["a"], [])


def test_a_folder_without_a_model_or_a_missing_package_is_one_sentence(tmp_path):
    expected = "no Whisper folder" if find_spec("faster_whisper") else r"pip install 'uniavgen\[eval\]'"
    with pytest.raises(CheckpointError, match=expected):
        WordErrorRate(str(tmp_path), Timebase())
