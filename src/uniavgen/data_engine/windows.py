"""Clips of a given number of frames inside candidates, such that no word is cut. [ours]"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from uniavgen.data.words import Word
from uniavgen.data_engine.candidates import Candidate
from uniavgen.timebase import ClipTiming

TRANSCRIPT, SYNC = "transcript", "sync"
_WITHOUT_BLANKS: Final = ("zh", "yue", "ja", "th", "lo", "my", "km")
"""Languages whose words are written without blanks between them."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A clip inside a candidate."""

    start_frame: int
    """Counted at the clip's rate from the time at which the source begins to play."""
    words: tuple[Word, ...]
    """Seconds from the clip's beginning, as sound and picture belong together."""
    text: str


def sound_offset_s(candidate: Candidate) -> float:
    """Returns how much later the source's sound plays than the pictures that it belongs to; 0 where it is unknown."""
    early_ms = candidate.source_value(SYNC, "offset_ms")
    return 0.0 if early_ms is None else -float(early_ms) / 1000


def spoken_words(candidate: Candidate) -> list[Word]:
    """Returns the words of a candidate's source in the time of its pictures."""
    rows: Sequence[Any] = candidate.source_value(TRANSCRIPT, "words") or []
    offset_s = sound_offset_s(candidate)
    return [Word(text=row["text"], start_s=row["start_s"] - offset_s, end_s=row["end_s"] - offset_s) for row in rows]


def find_windows(candidate: Candidate, timing: ClipTiming, max_cut_word_s: float) -> list[Window]:
    """Returns the windows of a candidate, one behind the other, each as early as words allow.

    A word that lies in a window with more than half of its length belongs to it; of no word more than
    `max_cut_word_s` lie on the other side. Windows begin on the grid of the clip's frames.
    """
    fps, offset_s = timing.base.fps, sound_offset_s(candidate)
    words = spoken_words(candidate)
    duration_s = float(timing.duration_s)
    # The sound of the window, which is read at another time, must not begin before the source.
    first = math.ceil(max(candidate.start_s, -offset_s) * fps)
    last = math.floor(candidate.end_s * fps) - timing.num_frames
    windows, frame = [], first
    while frame <= last:
        start_s = float(frame / fps)
        if any(_cut(words, time_s) > max_cut_word_s for time_s in (start_s, start_s + duration_s)):
            frame += 1
            continue
        windows.append(_window(frame, start_s, duration_s, words, _language(candidate)))
        frame += timing.num_frames
    return windows


def _cut(words: Sequence[Word], time_s: float) -> float:
    """Returns how much of a word lies on its lesser side of `time_s`."""
    return max((min(time_s - word.start_s, word.end_s - time_s) for word in words), default=0.0)


def _window(frame: int, start_s: float, duration_s: float, words: Sequence[Word], language: str) -> Window:
    inside = [word for word in words if start_s <= (word.start_s + word.end_s) / 2 < start_s + duration_s]
    placed = [
        Word(
            text=word.text.strip(),
            start_s=round(min(max(word.start_s - start_s, 0.0), duration_s), 3),
            end_s=round(min(max(word.end_s - start_s, 0.0), duration_s), 3),
        )
        for word in inside
        if word.text.strip()
    ]
    blank = "" if language in _WITHOUT_BLANKS else " "
    return Window(start_frame=frame, words=tuple(placed), text=blank.join(word.text for word in placed))


def _language(candidate: Candidate) -> str:
    return str(candidate.source_value(TRANSCRIPT, "language") or "")
