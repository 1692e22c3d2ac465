"""Typographic characters become plain ones where the vocabulary lacks them."""

import string

import pytest

from uniavgen.codecs.typography import plain_typography

ASCII = set(string.printable[:95])


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Wait\u2026 what?", "Wait... what?"),
        ("one\u00a0two\u2009three\u3000four\u202ffive", "one two three four five"),
        ("well\u2011known", "well-known"),
        ("pages 3\u20135", "pages 3-5"),
        ("I came \u2014 I saw\u2014I left", "I came, I saw, I left"),
        ("He left \u2013 at last", "He left, at last"),
        ("\u201cYes,\u201d she said. \u2018No.\u2019", "\"Yes,\" she said. 'No.'"),
        ("\u00abOui\u00bb", '"Oui"'),
        ("o\ufb03ce, \uff21\uff22\uff23", "office, ABC"),
        ("zero\u200bwidth\ufeff and soft\u00adhyphen", "zerowidth and softhyphen"),
        ("minus \u22125", "minus -5"),
        ("I\u2014", "I-"),
    ],
)
def test_plain_typography_replaces_what_the_vocabulary_lacks(written, plain):
    assert plain_typography(written, ASCII) == plain


def test_plain_typography_leaves_what_the_vocabulary_has():
    vocabulary = ASCII | {"\u2026", "\u2014", "\u201c"}
    assert plain_typography("a\u2026 b \u2014 \u201cc", vocabulary) == "a\u2026 b \u2014 \u201cc"


def test_plain_typography_leaves_letters_without_a_plain_form():
    assert plain_typography("caf\u00e9 \u4f60\u597d \U0001f600", ASCII) == "caf\u00e9 \u4f60\u597d \U0001f600"
