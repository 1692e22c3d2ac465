"""Where an interval with speech may be cut: in pauses, never inside a word."""

from collections.abc import Sequence
from itertools import pairwise

Interval = tuple[float, float]
"""Start and end in seconds."""


def split_at(intervals: Sequence[Interval], times_s: Sequence[float]) -> list[Interval]:
    """Splits intervals at the times that lie inside them."""
    parts = []
    for start_s, end_s in intervals:
        edges = [start_s, *(time_s for time_s in times_s if start_s < time_s < end_s), end_s]
        parts += list(pairwise(edges))
    return parts


def is_between(times_s: Sequence[float], start_s: float, end_s: float) -> bool:
    """Returns whether any of the times lies in an interval, its ends included."""
    return any(start_s <= time_s <= end_s for time_s in times_s)


def split_at_pauses(start_s: float, end_s: float, words: Sequence[Interval], max_s: float) -> list[Interval]:
    """Splits an interval into parts of at most `max_s`, in the middle of the longest pause of each part's later half.

    Where words leave no place there, the first half is searched too; a single word that is longer stays whole.
    """
    inside = [(a, b) for a, b in words if a < end_s and b > start_s]
    parts = []
    while end_s - start_s > max_s:
        edges = [start_s, *(edge for word in inside for edge in word), end_s]
        pauses = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b >= a]
        # A pause may reach beyond the longest part; it is cut where that part ends at the latest.
        places = [(min(b, start_s + max_s) - a, min((a + b) / 2, start_s + max_s)) for a, b in pauses]
        places = [(length, at) for length, at in places if length >= 0 and at > start_s]
        late = [place for place in places if place[1] >= start_s + max_s / 2]
        if not (late or places):
            # One word without end: no cut is possible before it ends.
            later = [(a + b) / 2 for a, b in pauses if a > start_s]
            at = later[0] if later and later[0] < end_s else end_s
        else:
            at = max(late or places)[1]
        if at >= end_s:
            break
        parts.append((start_s, at))
        start_s = at
        inside = [(a, b) for a, b in inside if b > start_s]
    parts.append((start_s, end_s))
    return parts
