"""Measurements on disk as they are made, so that a run that was stopped goes on where it was.

`scores.jsonl` holds one line a measurement with its CRC-32, appended and flushed to the disk at once; a line that was
cut off by a crash or damaged is measured again. Arrays lie beside it in `arrays/`, one npz a measurement. The key of a
measurement is all that decides it: the clip's bytes, the prompt, the metric's columns and networks, and the version of
this package.
"""

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import uniavgen
from uniavgen.artifacts import atomic_file, check_writable, decode_npz, not_written, parse_json
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
        """Makes nothing before there is a measurement. Raises OutputError where the folder cannot be written."""
        self._path, self._arrays = folder / "scores.jsonl", folder / "arrays"
        check_writable(self._path, (self._path.suffix,))
        try:
            self._lines = dict(_read_lines(self._path)) if self._path.exists() else {}
        except OSError as error:
            raise not_written(folder, error) from error

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
        """Stores a measurement; it is on the disk when this returns. Raises OutputError where the disk refuses."""
        if isinstance(result, Failure):
            data: dict[str, Any] = {"failure": result.reason}
        else:
            data = {"scores": result.scores, "reasons": result.reasons, "details": result.details}
            if result.arrays:
                # Before the line that names them, so that a line's arrays are always there.
                with atomic_file(self._array_file(key)) as partial:
                    np.savez(partial, **{name.replace("/", "__"): value for name, value in result.arrays.items()})
                data["arrays"] = True
        content = {"key": key, **data}
        line = json.dumps({**content, "crc32": _crc32(content)}, allow_nan=False)
        # What stays in memory is what a later run will read.
        self._lines[key] = json.loads(line)
        self._append(line.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    written = file.write(line)
                    if written < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    # What stays on a full disk are whole lines.
                    file.truncate(size)
                    raise
        except OSError as error:
            raise not_written(self._path, error) from error

    def _array_file(self, key: str) -> Path:
        return self._arrays / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"

    def _load_arrays(self, key: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of a measurement; None where the file is gone or damaged, so they are made again."""
        file = self._array_file(key)
        try:
            arrays = decode_npz(file.read_bytes(), file.name)
        except (OSError, DataError):
            return None
        return {name.replace("__", "/"): values for name, values in arrays.items()}


def metric_digest(metric: Metric, networks: Mapping[str, str]) -> str:
    """Returns the sha256 of what decides a metric's numbers; `networks` are names and checksums."""
    columns = [[column.name, column.description] for column in metric.columns]
    parts = [FORMAT, uniavgen.__version__, columns, dict(networks), dict(metric.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    content = path.read_bytes()
    complete, _, rest = content.rpartition(b"\n")
    if rest:
        # The next line must not be glued to one that was cut off.
        with path.open("r+b") as file:
            file.truncate(len(complete) + 1 if complete else 0)
    lines = []
    for line in complete.split(b"\n"):
        try:
            data = parse_json(line, path.name)
        except DataError:
            continue
        # Lines of earlier versions have no checksum.
        crc32 = data.pop("crc32", None)
        if crc32 in (None, _crc32(data)) and _is_result(data):
            lines.append((data.pop("key"), data))
    return lines


def _is_result(data: Mapping[str, Any]) -> bool:
    parts = [data.get(name) for name in ("scores", "reasons", "details")]
    return isinstance(data.get("key"), str) and (
        isinstance(data.get("failure"), str) or all(isinstance(part, dict) for part in parts)
    )


def _crc32(data: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(data, sort_keys=True).encode())
