"""Times of words: when each is spoken, so that a part of a clip has a transcript and every symbol a time.

Letters: p characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.codecs.pinyin import has_han

Phone = tuple[str, float, float]
"""Symbol, start and end in seconds; a blank symbol stands between words."""

MAX_JOINED = 4
"""With more words run together than this, all share the whole time. [ours]"""
MAX_DIVISIONS = 100_000
"""Divisions of the words among the groups that are compared; beyond it all words share the whole time. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word of a transcript, separated from the next one by white space where its script has any."""

    text: str
    start_s: float
    end_s: float


def joined_words(words: Sequence[Word]) -> str:
    """Returns the text of words: blanks stand between them, but not between two Chinese ones."""
    text = ""
    for word in words:
        is_continued = has_han(text[-1:]) and has_han(word.text[:1])
        text += word.text if is_continued or not text else f" {word.text}"
    return text


def word_times(text: str, phones: Sequence[Phone]) -> tuple[Word, ...]:
    """Returns when each word of `text` is spoken, by the times of its phones; nothing where there are none.

    Times are exact where the phones have as many blank-separated groups as the text has words. Phonemizers run short
    words together ("in the"); those words share their group's time by their count of letters.
    """
    words, groups = text.split(), _groups(phones)
    if not words or not groups:
        return ()
    timed: list[Word] = []
    for joined, group in _matched(words, groups):
        edges = [group[0][1], *(end for _, _, end in group)]
        letters = np.cumsum([0, *map(len, joined)]) / sum(map(len, joined))
        times = [float(time) for time in np.interp(letters * len(group), np.arange(len(edges)), edges)]
        timed += [Word(text=w, start_s=a, end_s=b) for w, a, b in zip(joined, times[:-1], times[1:], strict=True)]
    return tuple(timed)


def symbol_times(words: Sequence[Word], tokens_per_second: float) -> Float[Tensor, " p"]:
    """Returns the audio token, as a fraction, at which each character of the words, joined by blanks, is spoken.

    The characters of a word share its time evenly; a blank stands halfway between its words.
    """
    times: list[Tensor] = []
    for before, word in zip((None, *words), words, strict=False):
        if before is not None:
            times.append(torch.tensor([(before.end_s + word.start_s) / 2]))
        share = (torch.arange(len(word.text)) + 0.5) / len(word.text)
        times.append(word.start_s + share * (word.end_s - word.start_s))
    # Token k holds the sound around (k + 0.5) / rate.
    return torch.cat([torch.empty(0), *times]) * tokens_per_second - 0.5


def _matched(words: list[str], groups: list[list[Phone]]) -> list[tuple[list[str], list[Phone]]]:
    """Returns words beside the group of phones that holds them, divided so that each has as many letters as phones.

    Of all divisions the one with the least squared difference is taken.
    """
    num_joined = len(words) - len(groups)
    if not 0 <= num_joined <= MAX_JOINED or comb(len(words) - 1, num_joined) > MAX_DIVISIONS:
        return [(words, [phone for group in groups for phone in group])]
    num_phones = np.array([len(group) for group in groups])
    letters = np.cumsum([0, *map(len, words)])
    divisions = [(0, *cuts, len(words)) for cuts in combinations(range(1, len(words)), len(groups) - 1)]
    best = min(divisions, key=lambda cuts: float(np.square(np.diff(letters[list(cuts)]) - num_phones).sum()))
    return [(words[a:b], group) for a, b, group in zip(best[:-1], best[1:], groups, strict=True)]


def _groups(phones: Sequence[Phone]) -> list[list[Phone]]:
    """Returns the phones between blanks, without punctuation."""
    groups: list[list[Phone]] = [[]]
    for phone in phones:
        if not phone[0].strip():
            groups.append([])
        elif phone[0].isalpha():
            groups[-1].append(phone)
    return [group for group in groups if group]
