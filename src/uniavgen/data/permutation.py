"""Permutations of 0 .. n-1 that are computed item by item, so that an epoch of millions of clips needs no array."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

_ROUNDS: Final = 8
"""Of the Feistel network; with 4 an epoch already passes for shuffled [Luby and Rackoff 1988], more cost 1 us each."""
_MASK: Final = 2**64 - 1


def permuted(position: int, size: int, seed: Sequence[int]) -> int:
    """Returns the item at a position of the permutation of 0 .. size-1 that `seed` chooses.

    A Feistel network permutes the next power of 4; what falls outside of `size` goes through it again until it falls
    inside (cycle walking), so that each item occurs once. Takes some microseconds, whatever the size.
    """
    if not 0 <= position < size:
        raise IndexError(f"position {position} of {size}")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask, keys = (1 << half) - 1, _round_keys(tuple(seed))
    item = position
    while True:
        left, right = item >> half, item & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        item = left << half | right
        if item < size:
            return item


@lru_cache(maxsize=64)
def _round_keys(seed: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(key) for key in np.random.SeedSequence(seed).generate_state(_ROUNDS, np.uint64))


def _mixed(word: int) -> int:
    """Returns the 64 bits of a word well mixed: the finaliser of SplitMix64 [Steele 2014]."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31
