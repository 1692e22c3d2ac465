"""Speech made ahead: spoken once, kept as opus with its phone times, read back by `MadeSpeech` on any machine."""

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from uniavgen.artifacts import atomic_file, write_text
from uniavgen.errors import DataError
from uniavgen.media.packing import write_opus
from uniavgen.synth.speech import SAMPLE_RATE_HZ, Line, Speech, SpeechSource

_RATES = (0.9, 1.2)
"""Bounds of how fast an utterance is spoken. [ours]"""
_SHORTEST_S, _LONGEST_S = 1.0, 5.0
_AHEAD = 8
"""Utterances a process is given at once."""
_TRIED = 100
"""More numbers than this for one utterance kept are never needed."""


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
        """Ids of the utterances that are there; a line that an interruption cut off is removed.

        Raises DataError where the index is damaged.
        """
        index = self.folder / "index.jsonl"
        if not index.exists():
            return []
        text = index.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        try:
            ids = [json.loads(line)["id"] for line in whole.splitlines()]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"the speech index {index} cannot be read ({error!r}); delete the folder") from error
        if whole != text:
            write_text(index, whole)
        return ids

    def record(self, utterances: int, jobs: int = 1) -> Iterator[str]:
        """Speaks until the folder holds `utterances`, and gives the id of each when it is kept.

        The lines and their sound are the same whatever `jobs`. Shorter ones than a second and longer ones than five
        are left out.
        """
        kept = self.recorded_ids()
        missing = utterances - len(kept)
        if missing <= 0:
            return
        for row, sound in self._spoken(count(self._behind(kept)), jobs):
            if not _SHORTEST_S <= row["seconds"] <= _LONGEST_S:
                continue
            with atomic_file(self.folder / "opus" / f"{row['id']}.opus") as partial:
                write_opus(partial, sound, SAMPLE_RATE_HZ)
            with (self.folder / "index.jsonl").open("a", encoding="utf-8") as index:
                index.write(json.dumps(row, ensure_ascii=False) + "\n")
            yield row["id"]
            missing -= 1
            if missing == 0:
                return

    def _behind(self, kept: list[str]) -> int:
        """The number after that of the last utterance kept; DataError where this source has not made it."""
        if not kept:
            return 0
        for number in range(_TRIED * len(kept)):
            if self.source.line(self.seed, number).utterance == kept[-1]:
                return number + 1
        raise DataError(f"{self.folder} holds utterances of another source; name another folder")

    def _spoken(self, numbers: Iterator[int], jobs: int) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        if jobs == 1:
            yield from map(self._say, numbers)
            return
        with multiprocessing.get_context("spawn").Pool(jobs, initializer=_start, initargs=(self,)) as pool:
            while some := list(islice(numbers, jobs * _AHEAD)):
                yield from pool.imap(_say, some)

    def _say(self, number: int) -> tuple[dict[str, Any], np.ndarray]:
        line = self.source.line(self.seed, number)
        speed = round(float(np.random.default_rng([self.seed, number, 31]).uniform(*_RATES)), 2)
        speech = self.source.synthesize(line, speed)
        return _row(line, speed, speech), speech.waveform


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


_recorders: list[Recorder] = []


def _start(recorder: Recorder) -> None:
    _recorders.append(recorder)


def _say(number: int) -> tuple[dict[str, Any], np.ndarray]:
    return _recorders[0]._say(number)
