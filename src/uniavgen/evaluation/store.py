"""Measurements on disk as they are made, so that a run that was stopped goes on where it was.

`scores.jsonl` holds one line a measurement, appended and flushed to the disk at once. A line that was cut off by a
crash is measured again. What decides a measurement is its key: the clip's bytes, both prompts, the metric's columns
and networks, and the version of this package; whatever else changes, nothing is measured twice.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uniavgen
from uniavgen.artifacts import os_error_text
from uniavgen.errors import DataError
from uniavgen.evaluation.metric import Measurement, Metric


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip of which a metric says nothing."""

    reason: str


class ScoreStore:
    """The measurements of a report's folder."""

    def __init__(self, folder: Path) -> None:
        """DataError where the folder cannot be made or written."""
        self._path = folder / "scores.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._known = dict(_lines(self._path))
            self._path.touch()
        except OSError as error:
            raise DataError(f"cannot write to {folder}: {os_error_text(error)}; choose another folder") from None

    def load(self, key: str) -> Measurement | Failure | None:
        """What was found under a key, None if nothing was."""
        found = self._known.get(key)
        if found is None:
            return None
        if "failure" in found:
            return Failure(reason=found["failure"])
        return Measurement(scores=found["scores"], reasons=found["reasons"], details=found["details"])

    def save(self, key: str, found: Measurement | Failure) -> None:
        """Remember a measurement; it is on the disk when this returns."""
        if isinstance(found, Failure):
            data: dict[str, Any] = {"failure": found.reason}
        else:
            data = {"scores": found.scores, "reasons": found.reasons, "details": found.details}
        line = json.dumps({"key": key, **data}, allow_nan=False)
        # What is remembered is what a later run will read.
        self._known[key] = json.loads(line)
        with self._path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def metric_digest(metric: Metric, networks: Mapping[str, str]) -> str:
    """Of what decides a metric's numbers; `networks` are names and checksums."""
    columns = [[column.name, column.description] for column in metric.columns]
    parts = [uniavgen.__version__, columns, dict(networks), dict(metric.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole, _, rest = content.rpartition(b"\n")
    if rest:
        # The next line must not be glued to one that was cut off.
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)
    found = []
    for line in whole.splitlines():
        try:
            data = json.loads(line)
            found.append((data.pop("key"), data))
        except (ValueError, KeyError, AttributeError):
            continue
    return found
