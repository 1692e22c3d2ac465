"""Segments that are there twice: the same words over the same pictures.

Pictures alone would drop two good clips of one person in one room, words alone two people who say the same.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from uniavgen.config import Config
from uniavgen.config.values import Count, PositiveInt, Share


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig(Config):
    """Settings of `find_duplicates`."""

    max_bits: Count = 12
    """Of 64, in which the nearest hashes of two segments may differ at most. [ours]"""
    min_shared_words: Share = 0.6
    """Part of the shorter segment's runs of words that the other one has. [ours]"""
    run: PositiveInt = 3
    """Words of a run. [ours]"""


@dataclass(frozen=True, kw_only=True)
class SegmentContent:
    """What is seen and said in a segment."""

    hashes: Sequence[str]
    """Perceptual hashes of some frames, 64 bits as 16 hexadecimal digits."""
    words: Sequence[str]


Place = tuple[str, int]
"""Key of a source and index of a segment in it."""


def find_duplicates(segments: Mapping[Place, SegmentContent], settings: DuplicatesConfig) -> dict[Place, Place]:
    """Returns the duplicates, each with the first segment in the order of places that it repeats.

    Only segments that share a run of words are compared; those with fewer words than a run never are duplicates.
    """
    by_run: dict[Hashable, list[Place]] = defaultdict(list)
    runs: dict[Place, set[tuple[str, ...]]] = {}
    duplicates: dict[Place, Place] = {}
    for place in sorted(segments):
        runs[place] = word_runs(segments[place].words, settings.run)
        candidates = sorted({other for run in runs[place] for other in by_run[run]})
        for other in candidates:
            shared = len(runs[place] & runs[other]) / min(len(runs[place]), len(runs[other]))
            if shared >= settings.min_shared_words and are_alike(
                segments[place].hashes, segments[other].hashes, settings.max_bits
            ):
                duplicates[place] = other
                break
        else:
            for run in runs[place]:
                by_run[run].append(place)
    return duplicates


def differing_bits(a: str, b: str) -> int:
    """Returns in how many bits two hashes differ."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


def are_alike(a: Iterable[str], b: Sequence[str], max_bits: int) -> bool:
    """Returns whether some hashes of frames are alike: the cuts of a copy need not be those of the first."""
    return min((differing_bits(x, y) for x in a for y in b), default=max_bits + 1) <= max_bits


def word_runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """Returns all runs of so many words, without case and signs."""
    plain = ["".join(c for c in word.casefold() if c.isalnum()) for word in words]
    plain = [word for word in plain if word]
    return {tuple(plain[i : i + length]) for i in range(len(plain) - length + 1)}
