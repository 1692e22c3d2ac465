"""A source or a person is forgotten: records, embeddings and clips go, and the source does not come back."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import exclusive_output, read_json_lines, write_text
from uniavgen.data.shards import ShardSet, drop_samples
from uniavgen.data_engine.pack import PLAN_FILE, drop_plans, planned_keys
from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError

DECISIONS_FILE: Final = "decisions.jsonl"
"""In the work folder."""
_MIN_PREFIX: Final = 8
"""Digits of a key that must be given. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was removed, and what a user must do."""

    sources: Sequence[str]
    """Keys."""
    files: Sequence[Path]
    """The sources themselves, which are left where they are."""
    clips: Sequence[str]
    shards: Sequence[Path]
    """Those that were rewritten, or deleted where nothing was left."""
    features: Sequence[Path]
    """Folders whose clips must be removed by preparing them anew."""


def forget(work: WorkFolder, identifier: str, features: Iterable[Path] = ()) -> Forgotten:
    """Removes a source, or all sources in which a person is seen.

    Args:
        identifier: the key of a source or its first digits, its path, or the name of a person in `decisions.jsonl`.
        features: folders of features in which clips are looked for.

    A call that was interrupted can be made again. Raises DataError where nothing has this name.
    """
    work.check()
    with exclusive_output(work.folder):
        return _forget(work, identifier, features)


def _forget(work: WorkFolder, identifier: str, features: Iterable[Path]) -> Forgotten:
    paths = {source.key: source.path for source in work.sources()}
    rows = _decisions(work)
    keys = _matching(identifier, paths, rows)
    if not keys:
        raise DataError(
            f"there is no source or person '{identifier[:100]}' in {work.folder}; give the path of a source, its key, "
            f"or a person of {DECISIONS_FILE}"
        )
    clips: set[str] = set()
    shards: list[Path] = []
    for folder in work.packs:
        if (folder / PLAN_FILE).is_file():
            held = {clip for clip, source in planned_keys(folder).items() if source in keys}
            shards += drop_samples(folder, held)
            drop_plans(folder, held)
            clips |= held
    for key in keys:
        shutil.rmtree(RecordStore(work.folder).folder_of(key), ignore_errors=True)
    left = [row for row in rows if _source_key(row) not in keys]
    work.forget(keys)
    write_text(work.folder / DECISIONS_FILE, "".join(json.dumps(row, sort_keys=True) + "\n" for row in left))
    stale = [folder for folder in features if {*ShardSet(folder, allow_empty=True).keys} & clips]
    return Forgotten(
        sources=sorted(keys),
        files=[paths[key] for key in sorted(keys)],
        clips=sorted(clips),
        shards=shards,
        features=stale,
    )


def _matching(identifier: str, paths: Mapping[str, Path], rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Returns the keys of the sources that an identifier names."""
    path = Path(identifier).absolute()
    keys = {key for key in paths if len(identifier) >= _MIN_PREFIX and key.startswith(identifier)}
    keys |= {key for key, each in paths.items() if each == path}
    return keys | {_source_key(row) for row in rows if row.get("person") == identifier}


def _decisions(work: WorkFolder) -> list[dict[str, Any]]:
    path = work.folder / DECISIONS_FILE
    return [row for _, row in read_json_lines(path)] if path.is_file() else []


def _source_key(row: Mapping[str, Any]) -> str:
    return str(row["key"]).partition("-")[0]
