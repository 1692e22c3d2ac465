"""When which word is spoken: a part of a clip has a transcript of its own, and every symbol its time.

Letters: p characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Phone = tuple[str, float, float]
"""Symbol, start and end in seconds; a blank symbol stands between words."""

MOST_JOINED = 4
"""With more words run together than this, all share the whole time."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """One whitespace-separated word of a transcript."""

    text: str
    start_s: float
    end_s: float


def word_times(text: str, phones: Sequence[Phone]) -> tuple[Word, ...]:
    """Times of the words of `text` out of phone times.

    Exact where the phones have as many blank-separated groups as the text has words. Phonemizers run short words
    together ("in the"); those words share their group's time by their count of letters.
    """
    words, groups = text.split(), _groups(phones)
    if not words or not groups:
        return ()
    timed: list[Word] = []
    for shared, sounds in _matched(words, groups):
        edges = [sounds[0][1], *(end for _, _, end in sounds)]
        letters = np.cumsum([0, *map(len, shared)]) / sum(map(len, shared))
        times = [float(time) for time in np.interp(letters * len(sounds), np.arange(len(edges)), edges)]
        timed += [Word(text=w, start_s=a, end_s=b) for w, a, b in zip(shared, times[:-1], times[1:], strict=True)]
    return tuple(timed)


def symbol_times(words: Sequence[Word], tokens_per_second: float) -> Float[Tensor, " p"]:
    """The audio token at which each character of the words, joined by blanks, is spoken.

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
    """Words beside the group of phones that holds them: the division with the most even letters a phone."""
    if not 0 <= len(words) - len(groups) <= MOST_JOINED:
        return [(words, [phone for group in groups for phone in group])]
    sounds = np.array([len(group) for group in groups])
    letters = np.cumsum([0, *map(len, words)])
    divisions = [(0, *cuts, len(words)) for cuts in combinations(range(1, len(words)), len(groups) - 1)]
    best = min(divisions, key=lambda cuts: float(np.square(np.diff(letters[list(cuts)]) - sounds).sum()))
    return [(words[a:b], group) for a, b, group in zip(best[:-1], best[1:], groups, strict=True)]


def _groups(phones: Sequence[Phone]) -> list[list[Phone]]:
    groups: list[list[Phone]] = [[]]
    for phone in phones:
        if not phone[0].strip():
            groups.append([])
        elif phone[0].isalpha():
            groups[-1].append(phone)
    return [group for group in groups if group]
