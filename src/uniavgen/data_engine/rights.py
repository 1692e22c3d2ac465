"""Who a source belongs to and who agreed: from a sidecar `NAME.json` or a table `sources.csv` beside it."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from uniavgen.artifacts import path_exists, read_json, read_text
from uniavgen.config import Config, parse
from uniavgen.errors import DataError

TABLE: Final = "sources.csv"
"""Beside sources: a row each, with the column `file` and the fields of `Rights`."""

Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Rights(Config):
    """What is known of the rights in a source; carried to every clip that is cut from it."""

    source_url: str = ""
    title: str = ""
    uploader: str = ""
    retrieved_at: str = ""
    licence: str = "unknown"
    """SPDX identifier."""
    licence_url: str = ""
    attribution: str = ""
    consent: Answer = "unknown"
    consent_reference: str = ""
    subject_is_minor: Answer = "unknown"
    sensitive_notes: str = ""
    opt_out: Answer = "no"
    """Whether the source must not be used."""

    @classmethod
    def of(cls, facts: Mapping[str, Any], origin: str) -> "Rights":
        """Parses the known columns of a sidecar or a row; yes and no may be booleans. Raises ConfigError for others."""
        known = {name: facts[name] for name in cls.__annotations__ if facts.get(name) not in (None, "")}
        answers = {True: "yes", False: "no"}
        lowered = {
            name: answers[value] if isinstance(value, bool) else value.strip().lower()
            for name, value in known.items()
            if name in _ANSWERS and isinstance(value, bool | str)
        }
        return parse(cls, known | lowered, origin)


_ANSWERS: Final = ("consent", "subject_is_minor", "opt_out")


@dataclass
class RightsReader:
    """Reads rights beside files; each table is read once."""

    _tables: dict[Path, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def read(self, file: Path) -> Rights:
        """Returns what a sidecar, or else the table beside the file, says of its rights.

        Raises DataError or ConfigError where these are damaged.
        """
        sidecar = file.with_suffix(".json")
        if path_exists(sidecar):
            return Rights.of(read_json(sidecar), str(sidecar))
        table = file.parent / TABLE
        if table not in self._tables:
            self._tables[table] = _rows(table) if path_exists(table) else {}
        row = self._tables[table].get(file.name)
        return Rights() if row is None else Rights.of(row, f"{table}, {file.name}")


def _rows(table: Path) -> Mapping[str, Mapping[str, Any]]:
    rows = csv.DictReader(io.StringIO(read_text(table)))
    try:
        if "file" not in (rows.fieldnames or ()):
            raise DataError(f"{table} has no column 'file', expected one and the columns of rights; add it")
        return {row["file"]: row for row in rows if row.get("file")}
    except csv.Error as error:
        raise DataError(f"{table} is no table of comma-separated values ({error}); mend it") from error
