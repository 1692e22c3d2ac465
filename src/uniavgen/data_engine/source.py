"""Source files: where they are found, and how each is known by its content, whatever its name."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import os_error_text, path_exists, read_json, read_text
from uniavgen.data_engine.rights import Rights
from uniavgen.errors import DataError

SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv")
"""Of video files; other files in a folder of sources are left alone."""
RIGHTS_TABLE: Final = "sources.csv"
"""Beside sources: a row each, with the column `file` and the fields of `Rights`."""
_PIECE: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file of raw video."""

    path: Path
    key: str
    """Its content: SHA-256 of its length, its first and its last MiB, 32 hexadecimal digits."""
    rights: Rights


@dataclass(frozen=True, kw_only=True)
class UnreadableSource:
    """A file or folder that cannot be opened."""

    path: Path
    reason: str


def find_sources(paths: Iterable[Path]) -> tuple[list[Source], list[UnreadableSource]]:
    """Returns the video files among `paths` and in the folders among them, by key, and what cannot be opened.

    A file that is there twice counts once, by the first of its names. Raises DataError for a path that does not exist.
    """
    sources: dict[str, Source] = {}
    unreadable: list[UnreadableSource] = []
    for path in paths:
        if not path_exists(path):
            raise DataError(f"there is no file or folder {path}; give videos or folders of videos")
        for file in _files(path, unreadable):
            try:
                key = content_key(file)
            except OSError as error:
                unreadable.append(UnreadableSource(path=file, reason=os_error_text(error)))
                continue
            sources.setdefault(key, Source(path=file, key=key, rights=_rights(file)))
    return [sources[key] for key in sorted(sources)], unreadable


def content_key(file: Path) -> str:
    """Returns `Source.key` of a file."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as content:
        digest.update(content.read(_PIECE))
        content.seek(max(size - _PIECE, 0))
        digest.update(content.read(_PIECE))
    return digest.hexdigest()[:32]


def _files(path: Path, unreadable: list[UnreadableSource]) -> Iterator[Path]:
    """Yields the video files of a folder in order, or the one file that is named."""
    if not path.is_dir():
        yield path
        return
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        unreadable.append(UnreadableSource(path=path, reason=os_error_text(error)))
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry, unreadable)
        elif entry.suffix.lower() in SUFFIXES and not entry.name.startswith("."):
            yield entry


def _rights(file: Path) -> Rights:
    """Returns what a sidecar, or else the table beside the file, says of its rights."""
    sidecar = file.with_suffix(".json")
    if sidecar.is_file():
        return Rights.of(read_json(sidecar), str(sidecar))
    table = file.parent / RIGHTS_TABLE
    row = _rows(table).get(file.name) if table.is_file() else None
    return Rights() if row is None else Rights.of(row, f"{table}, {file.name}")


def _rows(table: Path) -> Mapping[str, Mapping[str, Any]]:
    rows = csv.DictReader(io.StringIO(read_text(table)))
    return {row["file"]: {k: v for k, v in row.items() if k and v} for row in rows if row.get("file")}
