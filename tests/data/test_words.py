"""Word times out of phone times."""

from itertools import pairwise

import pytest

from uniavgen.data.words import Word, symbol_times, word_times


def phones(*groups):
    """Each phone lasts a tenth, each blank a twentieth of a second."""
    time, listed = 0.2, []
    for i, group in enumerate(groups):
        for symbol in group:
            listed.append((symbol, round(time, 3), round(time + 0.1, 3)))
            time += 0.1
        if i < len(groups) - 1:
            listed.append((" ", round(time, 3), round(time + 0.05, 3)))
            time += 0.05
    return listed


def test_word_times_are_exact_with_one_group_per_word():
    words = word_times("hi there, you", phones("hI", "DE", "ju"))
    assert [(w.text, w.start_s, w.end_s) for w in words] == [
        ("hi", 0.2, 0.4),
        ("there,", 0.45, 0.65),
        ("you", 0.7, 0.9),
    ]


def test_words_spoken_without_a_pause_share_only_their_group():
    words = word_times("mouse in the office", phones("maUs", "InDE", "QfIs"))
    assert [w.text for w in words] == ["mouse", "in", "the", "office"]
    assert (words[0].start_s, words[0].end_s) == (0.2, 0.6)
    assert words[1].start_s == 0.65
    assert words[2].end_s == pytest.approx(1.05)
    assert words[1].end_s == words[2].start_s == pytest.approx(0.65 + 0.4 * 2 / 5)
    assert (words[3].start_s, words[3].end_s) == (1.1, 1.5)


def test_word_times_cover_the_speech_with_far_fewer_groups_than_words():
    text = "one two three four five six seven"
    words = word_times(text, phones("abcdefghij"))
    assert " ".join(w.text for w in words) == text
    assert (words[0].start_s, words[-1].end_s) == (0.2, pytest.approx(1.2))
    assert all(a.end_s == b.start_s for a, b in pairwise(words))


@pytest.mark.parametrize(("text", "listed"), [("", [("a", 0.0, 1.0)]), ("hello", []), ("hello", [(".", 0.0, 1.0)])])
def test_word_times_of_no_words_or_no_phones_are_empty(text, listed):
    assert word_times(text, listed) == ()


def test_symbols_share_the_time_of_their_word_and_blanks_lie_between():
    words = (Word(text="hi,", start_s=0.1, end_s=0.4), Word(text="you", start_s=0.5, end_s=0.8))
    times = (symbol_times(words, tokens_per_second=20.0) + 0.5) / 20.0
    assert times.tolist() == pytest.approx([0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75])
    assert len(symbol_times((), 20.0)) == 0
