"""The log of a run: one JSON object a line, for what reads no TensorBoard files."""

import json
from collections.abc import Mapping
from pathlib import Path

from uniavgen.artifacts import parse_json, write_text
from uniavgen.errors import DataError


class StepLog:
    """Appends numbers of steps to a file, which it makes with the first of them.

    The weights are worth more than their log: where the file cannot be written, nothing is.
    """

    def __init__(self, path: Path, step: int) -> None:
        """step: steps that the run has done; lines of later ones, which are done again, are removed."""
        self._path = path
        self._first_step = step
        self._is_cut = not path.is_file()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Appends a line."""
        line = json.dumps({"step": step, **{name: float(f"{value:.6g}") for name, value in numbers.items()}})
        try:
            if not self._is_cut:
                self._cut()
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            return

    def _cut(self) -> None:
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_text(self._path, "".join(line for line in lines if _step_of(line) <= self._first_step))
        self._is_cut = True


def _step_of(line: str) -> float:
    """Returns the step of a line; infinity for one that was cut off when its process was killed."""
    try:
        step = parse_json(line, "a line")["step"]
    except (DataError, KeyError):
        return float("inf")
    return float(step) if isinstance(step, int) else float("inf")
