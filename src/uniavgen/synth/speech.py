"""Speech with phone times: one interface, several sources.

A source says which line a clip gets and then speaks it. All give 24 kHz mono; phones are (symbol, start s, end s) in
the symbols of `visemes`, blanks between words.
"""

import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import read_json_lines
from uniavgen.config import Config, parse
from uniavgen.errors import ConfigError, DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.synth.visemes import Phone

SAMPLE_RATE_HZ = 24_000
SPLITS = ("train", "val", "all")
_HELD_OUT = 10
"""One sentence in so many is for validation only."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is said, and by which voice of the source."""

    utterance: str
    text: str
    voice: str
    gender: str


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A spoken line."""

    waveform: Float32[np.ndarray, " samples"]
    phones: tuple[Phone, ...]

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLE_RATE_HZ


@runtime_checkable
class SpeechSource(Protocol):
    """A source of lines and their audio. Implementations can be pickled, so that every process has one."""

    def line(self, seed: int, number: int) -> Line:
        """Returns the line of clip `number` of the world `seed`."""
        ...

    def synthesize(self, line: Line, rate: float) -> Speech:
        """Speaks a line; `rate` above 1 is faster, for sources that can."""
        ...


def split_of(text: str) -> str:
    """Returns `train` or `val`, by the sentence alone, so that no sentence is in both."""
    return "val" if zlib.crc32(text.lower().encode()) % _HELD_OUT == _HELD_OUT - 1 else "train"


def check_split(split: str) -> str:
    """Returns `split` itself. Raises ConfigError where it is no split."""
    if split not in SPLITS:
        raise ConfigError(f"the split is one of {', '.join(SPLITS)}, got '{split}'")
    return split


@dataclass(frozen=True, kw_only=True)
class _Utterance(Config):
    """A line of the index, as far as it is read here."""

    id: str
    text: str
    voice: str
    gender: str
    seconds: float
    phones: tuple[tuple[str, float, float], ...]


class RecordedSpeech:
    """Speech made ahead: `index.jsonl` (id, text, voice, gender, seconds, phones) and `opus/ID.opus`.

    Clip numbers go through all utterances of the split in an order drawn from the seed before one comes again.
    """

    def __init__(self, folder: Path, split: str = "all", longest_s: float = 5.0) -> None:
        self._folder = folder
        self._split = check_split(split)
        self._longest_s = longest_s
        if not self._entries:
            raise DataError(f"{folder / 'index.jsonl'} has no utterance of the split '{split}' under {longest_s} s")

    @cached_property
    def _entries(self) -> list[_Utterance]:
        index = self._folder / "index.jsonl"
        names = [field.name for field in fields(_Utterance)]
        entries = [
            parse(_Utterance, {name: row[name] for name in names if name in row}, origin)
            for origin, row in read_json_lines(index, remedy="make the folder anew")
        ]
        return [
            entry
            for entry in entries
            if entry.seconds <= self._longest_s and self._split in ("all", split_of(entry.text))
        ]

    def line(self, seed: int, number: int) -> Line:
        """Returns the line of clip `number` of the world `seed`."""
        cycle, place = divmod(number, len(self._entries))
        order = np.random.default_rng([seed, cycle, 77]).permutation(len(self._entries))
        entry = self._entries[order[place]]
        return Line(utterance=entry.id, text=entry.text, voice=entry.voice, gender=entry.gender)

    def synthesize(self, line: Line, rate: float) -> Speech:  # noqa: ARG002
        """Returns the recording at the rate at which it was spoken. Raises DataError where the file is damaged."""
        entry = next(entry for entry in self._entries if entry.id == line.utterance)
        path = self._folder / "opus" / f"{line.utterance}.opus"
        return Speech(waveform=read_speech(path), phones=entry.phones)


def read_speech(path: Path) -> Float32[np.ndarray, " samples"]:
    """Returns the 24 kHz mono samples of a sound file. Raises DataError when it cannot be read."""
    try:
        return read_audio(path, SAMPLE_RATE_HZ)
    except MediaError as error:
        raise DataError(f"a recording of the speech folder cannot be read: {error}; make it again") from error
