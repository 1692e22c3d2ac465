"""Measurements on disk as they are made, so that a run that was stopped goes on where it was.

`scores.jsonl` holds one line a measurement, appended and flushed to the disk at once; a line that was cut off by a
crash is measured again. Arrays lie beside it in `arrays/`, one npz a measurement. The key of a measurement is all that
decides it: the clip's bytes, the prompt, the metric's columns and networks, and the version of this package.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import uniavgen
from uniavgen.artifacts import atomic_file, os_error_text
from uniavgen.errors import DataError
from uniavgen.evaluation.metric import Measurement, Metric

FORMAT = 2
"""Of the stored measurements: those of another format are made again."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A clip of which a metric says nothing."""

    reason: str


class ScoreStore:
    """The measurements in a report's folder."""

    def __init__(self, folder: Path) -> None:
        """DataError where the folder cannot be made or written."""
        self._path, self._arrays = folder / "scores.jsonl", folder / "arrays"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = dict(_read_lines(self._path))
            self._path.touch()
        except OSError as error:
            raise DataError(f"cannot write to {folder}: {os_error_text(error)}; choose another folder") from error

    def load(self, key: str) -> Measurement | Failure | None:
        """Returns what is stored under a key, None if nothing is."""
        line = self._lines.get(key)
        if line is None:
            return None
        if "failure" in line:
            return Failure(reason=line["failure"])
        arrays = self._load_arrays(key) if line.get("arrays") else {}
        if arrays is None:
            return None
        return Measurement(scores=line["scores"], reasons=line["reasons"], details=line["details"], arrays=arrays)

    def save(self, key: str, result: Measurement | Failure) -> None:
        """Stores a measurement; it is on the disk when this returns."""
        if isinstance(result, Failure):
            data: dict[str, Any] = {"failure": result.reason}
        else:
            data = {"scores": result.scores, "reasons": result.reasons, "details": result.details}
            if result.arrays:
                # Before the line that names them, so that a line's arrays are always there.
                with atomic_file(self._array_file(key)) as partial:
                    np.savez(partial, **{name.replace("/", "__"): value for name, value in result.arrays.items()})
                data["arrays"] = True
        line = json.dumps({"key": key, **data}, allow_nan=False)
        # What is kept in memory is what a later run will read.
        self._lines[key] = json.loads(line)
        with self._path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _array_file(self, key: str) -> Path:
        return self._arrays / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"

    def _load_arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a measurement; None where the file is gone or damaged, so they are made again."""
        try:
            with np.load(self._array_file(key), allow_pickle=False) as stored:
                return {name.replace("__", "/"): stored[name] for name in stored.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None


def metric_digest(metric: Metric, networks: Mapping[str, str]) -> str:
    """Returns the sha256 of what decides a metric's numbers; `networks` are names and checksums."""
    columns = [[column.name, column.description] for column in metric.columns]
    parts = [FORMAT, uniavgen.__version__, columns, dict(networks), dict(metric.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        return []
    content = path.read_bytes()
    complete, _, rest = content.rpartition(b"\n")
    if rest:
        # The next line must not be glued to one that was cut off.
        with path.open("r+b") as file:
            file.truncate(len(complete) + 1 if complete else 0)
    lines = []
    for line in complete.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and "key" in data:
            lines.append((data.pop("key"), data))
    return lines
