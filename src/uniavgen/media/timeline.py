"""Where each block of a sound track belongs: gaps and overlaps stay, the jitter of time stamps does not."""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from av.audio.frame import AudioFrame

_TOLERANCE_S: Final = Fraction(4, 1000)
"""Time stamps in milliseconds and clocks of recorders are that far off without a gap. [ours]"""
_LOOKAHEAD: Final = 8
"""Blocks that must agree that the sound has moved; browsers stamp single blocks by up to 30 ms early or late. [ours]"""


@dataclass(frozen=True, kw_only=True)
class PlacedBlock:
    """A block of sound and when it begins to play."""

    begin_s: Fraction
    follows: bool
    """Whether it continues the block before without a gap."""
    frame: AudioFrame


class Timeline:
    """Places the blocks of a track, which come in their order with their time stamps.

    A block follows the one before unless all of the next blocks are late, or all early, by more than _TOLERANCE_S.
    """

    def __init__(self) -> None:
        self._next_s: Fraction | None = None
        self._waiting: deque[tuple[Fraction | None, AudioFrame]] = deque()

    def push(self, time_s: Fraction | None, frame: AudioFrame) -> list[PlacedBlock]:
        """Takes a block; returns the earlier ones that are now placed."""
        self._waiting.append((time_s, frame))
        return [self._place()] if len(self._waiting) > _LOOKAHEAD else []

    def finish(self) -> list[PlacedBlock]:
        """Returns the blocks that are left."""
        return [self._place() for _ in range(len(self._waiting))]

    def _place(self) -> PlacedBlock:
        has_moved = self._has_moved()
        time_s, frame = self._waiting.popleft()
        begin_s = self._next_s
        follows = begin_s is not None and not has_moved
        if begin_s is None or (has_moved and time_s is not None):
            begin_s = time_s or Fraction(0)
        self._next_s = begin_s + _length_s(frame)
        return PlacedBlock(begin_s=begin_s, follows=follows, frame=frame)

    def _has_moved(self) -> bool:
        expected_s = self._next_s
        if expected_s is None or self._waiting[0][0] is None:
            return False
        late = []
        for time_s, frame in self._waiting:
            if time_s is not None:
                late.append(time_s - expected_s)
            expected_s += _length_s(frame)
        return min(late) > _TOLERANCE_S or max(late) < -_TOLERANCE_S


def _length_s(frame: AudioFrame) -> Fraction:
    return Fraction(frame.samples, frame.sample_rate)
