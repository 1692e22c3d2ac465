"""Recorded speech: synthesized once, stored as Opus with its phone times, read back by `RecordedSpeech` anywhere."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from uniavgen.artifacts import atomic_file, parse_json, read_text, write_text
from uniavgen.artifacts.error_text import not_written
from uniavgen.errors import DataError
from uniavgen.media.packing import write_opus
from uniavgen.synth.speech import SAMPLE_RATE_HZ, Line, Speech, SpeechSource

_RATES = (0.9, 1.2)
"""Bounds of how fast an utterance is spoken. [ours]"""
_SHORTEST_S, _LONGEST_S = 1.0, 5.0
_DELETE = "delete the folder, or name another one"
_AHEAD = 8
"""Utterances of each process before the results are collected."""
_NUMBERS_PER_UTTERANCE = 100
"""A source makes at least one utterance of a usable length out of this many numbers."""


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Writes the utterances of one source and seed into a folder: `index.jsonl` and `opus/ID.opus`.

    The index grows by a line whenever the sound of an utterance lies whole in its place, so that a stopped run
    goes on behind its last line.
    """

    folder: Path
    source: SpeechSource
    seed: int

    def recorded_ids(self) -> list[str]:
        """Returns the ids of the recorded utterances; a line that an interruption cut off is removed.

        Raises DataError where the index is damaged.
        """
        index = self.folder / "index.jsonl"
        if not index.exists():
            return []
        text = read_text(index, remedy=_DELETE)
        whole = text[: text.rfind("\n") + 1]
        rows = [parse_json(line, str(index), remedy=_DELETE) for line in whole.split("\n")[:-1]]
        ids = [row["id"] for row in rows if isinstance(row.get("id"), str)]
        if len(ids) < len(rows):
            raise DataError(f"{index} has {len(rows) - len(ids)} lines without an id; {_DELETE}")
        if whole != text:
            write_text(index, whole)
        return ids

    def record(self, utterances: int, jobs: int = 1) -> Iterator[str]:
        """Records until the folder holds `utterances`, and yields the id of each one when it is stored.

        Lines and samples are the same whatever `jobs`. Utterances of less than 1 s or more than 5 s are left out.
        """
        recorded = self.recorded_ids()
        missing = utterances - len(recorded)
        if missing <= 0:
            return
        for row, waveform in self._synthesized(count(self._next_number(recorded)), jobs):
            if not _SHORTEST_S <= row["seconds"] <= _LONGEST_S:
                continue
            with atomic_file(self.folder / "opus" / f"{row['id']}.opus") as partial:
                write_opus(partial, waveform, SAMPLE_RATE_HZ)
            _append_line(self.folder / "index.jsonl", json.dumps(row, ensure_ascii=False))
            yield row["id"]
            missing -= 1
            if missing == 0:
                return

    def synthesize(self, number: int) -> tuple[dict[str, Any], np.ndarray]:
        """Returns the index row and the samples of an utterance."""
        line = self.source.line(self.seed, number)
        speed = round(float(np.random.default_rng([self.seed, number, 31]).uniform(*_RATES)), 2)
        speech = self.source.synthesize(line, speed)
        return _row(line, speed, speech), speech.waveform

    def _next_number(self, recorded: list[str]) -> int:
        """Returns the number after that of the last recorded utterance.

        Raises DataError where it is of another source.
        """
        if not recorded:
            return 0
        for number in range(_NUMBERS_PER_UTTERANCE * len(recorded)):
            if self.source.line(self.seed, number).utterance == recorded[-1]:
                return number + 1
        raise DataError(f"{self.folder} holds utterances of another source; name another folder")

    def _synthesized(self, numbers: Iterator[int], jobs: int) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        if jobs == 1:
            yield from map(self.synthesize, numbers)
            return
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, initializer=_RecordingProcess.start, initargs=(self,)) as pool:
            while chunk := list(islice(numbers, jobs * _AHEAD)):
                yield from pool.imap(_RecordingProcess.synthesize, chunk)


class _RecordingProcess:
    """A process of a pool. It holds one recorder, so that its voice is loaded once and not for each utterance."""

    recorder: ClassVar[Recorder]

    @classmethod
    def start(cls, recorder: Recorder) -> None:
        cls.recorder = recorder

    @classmethod
    def synthesize(cls, number: int) -> tuple[dict[str, Any], np.ndarray]:
        return cls.recorder.synthesize(number)


def _append_line(path: Path, line: str) -> None:
    """Appends a line; where that fails, as on a full disk, the file stays as it was. Raises OutputError."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        os.truncate(path, size)
        raise not_written(path, error) from error


def _row(line: Line, speed: float, speech: Speech) -> dict[str, Any]:
    return {
        "id": line.utterance,
        "text": line.text,
        "voice": line.voice,
        "gender": line.gender,
        "speed": speed,
        "seconds": round(speech.duration_s, 4),
        "phones": [[symbol, round(start, 4), round(end, 4)] for symbol, start, end in speech.phones],
    }
