"""A clip as a set of other people gives it: a stretch of a video file, with what the set says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniavgen.data.words import Word

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of the picture."""


@dataclass(frozen=True, kw_only=True)
class GivenClip:
    """What a set gives; nothing of it was measured here."""

    key: str
    origin: str
    """File and line, for errors."""
    video: Path | None
    """None where the set names a file that is not there; `problem` says which."""
    audio: Path | None = None
    """A file of its own, which begins with the video; None where the video has it."""
    start_s: float = 0.0
    end_s: float | None = None
    """In the video; None is its end."""
    box: Box | None = None
    """The part of the picture that the set means."""
    text: str = ""
    """What is said; empty where the set does not say."""
    words: tuple[Word, ...] = ()
    """Seconds of the file."""
    caption: str = ""
    speaker: str = ""
    language: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Other columns, among them those of rights."""
    problem: str = ""
    """Why it cannot be read, as what its line does."""

    def given(self) -> dict[str, Any]:
        """Returns JSON of what the set says."""
        facts: dict[str, Any] = {
            "key": self.key,
            "text": self.text,
            "caption": self.caption,
            "speaker": self.speaker,
            "language": self.language,
            "words": [[word.text, word.start_s, word.end_s] for word in self.words],
            "box": list(self.box or ()),
            "facts": dict(self.facts),
        }
        times = {"start_s": self.start_s, "end_s": self.end_s} if self.end_s is not None else {}
        return {name: value for name, value in facts.items() if value} | times
