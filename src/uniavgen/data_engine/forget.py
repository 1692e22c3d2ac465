"""A source or a person is forgotten: records, embeddings and clips go, and neither the source nor a copy comes back."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import exclusive_output, os_error_text, path_exists, read_json_lines, write_text
from uniavgen.data.shards import ShardSet, drop_samples
from uniavgen.data_engine.blocked_persons import block_person
from uniavgen.data_engine.candidates import find_candidates
from uniavgen.data_engine.fingerprints import Fingerprint, fingerprints, has_copy
from uniavgen.data_engine.pack import PLAN_FILE, drop_plans, planned_keys
from uniavgen.data_engine.records import RecordStore
from uniavgen.data_engine.report_page import PAGE_FILE
from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError, OutputError

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
    reports: Sequence[Path]
    """Pages that showed clips, which are deleted."""
    features: Sequence[Path]
    """Folders whose clips must be removed by preparing them anew."""
    absent: Sequence[Path]
    """Folders of shards that were packed from these records and are no longer there; copies may hold clips."""


def forget(work: WorkFolder, identifier: str, features: Iterable[Path] = (), *, block: bool = False) -> Forgotten:
    """Removes a source and its copies, or all sources in which a person is seen.

    Args:
        identifier: the key of a source or its first digits, its path, or the name of a person in `decisions.jsonl`.
        features: folders of features in which clips are looked for.
        block: keeps the person out of other videos too; see `blocked_persons`.

    A call that was interrupted can be made again. Raises DataError where nothing has this name, and OutputError where
    something cannot be removed.
    """
    work.check()
    with exclusive_output(work.folder):
        paths, rows = work.paths, _decisions(work)
        named = _matching(identifier, paths, rows) & paths.keys()
        unfinished = work.forgotten & paths.keys()
        if not named | unfinished:
            raise DataError(
                f"there is no source or person '{identifier[:100]}' in {work.folder}; give the path of a source, its "
                f"key, or a person of {DECISIONS_FILE}"
            )
        if block:
            _block(work, identifier, paths, rows)
        segments_by_key = {key: _fingerprints(work, key, path) for key, path in paths.items()}
        content = [each for key in sorted(named) for each in segments_by_key[key]]
        copies = {key for key, segments in segments_by_key.items() if has_copy(segments, content)}
        work.begin_forgetting(named | copies, content)
        return _remove(work, named | copies | unfinished, features)


def forget_copies(work: WorkFolder) -> list[Path]:
    """Removes the sources that repeat a forgotten one; returns where they lie. The caller holds the work folder."""
    content, forgotten = work.forgotten_content, work.forgotten
    if not content:
        return []
    paths = {key: path for key, path in work.paths.items() if key not in forgotten}
    copies = {key for key, path in paths.items() if has_copy(_fingerprints(work, key, path), content)}
    if copies:
        work.begin_forgetting(copies, ())
        _remove(work, copies, ())
    return [paths[key] for key in sorted(copies)]


def _remove(work: WorkFolder, keys: set[str], features: Iterable[Path]) -> Forgotten:
    """Removes what there is of sources that are remembered as forgotten; their names last, so that it can be redone."""
    paths, clips = work.paths, set[str]()
    shards: list[Path] = []
    packs = [folder for folder in work.packs if path_exists(folder / PLAN_FILE)]
    for folder in packs:
        held = {clip for clip, source in planned_keys(folder).items() if source in keys}
        shards += drop_samples(folder, held)
        drop_plans(folder, held)
        clips |= held
    for key in keys:
        _delete(RecordStore(work.folder).folder_of(key))
    # Other files than pages are not deleted, whatever a work folder that somebody gave away names.
    reports = [page for page in work.reports if page.name == PAGE_FILE and not page.is_dir() and _delete(page)]
    left = [row for row in _decisions(work) if _source_key(row) not in keys]
    write_text(work.folder / DECISIONS_FILE, "".join(json.dumps(row, sort_keys=True) + "\n" for row in left))
    absent = [folder for folder in work.packs if folder not in packs]
    work.end_forgetting()
    return Forgotten(
        sources=sorted(keys),
        files=[paths[key] for key in sorted(keys)],
        clips=sorted(clips),
        shards=shards,
        reports=reports,
        features=[folder for folder in features if {*ShardSet(folder, allow_empty=True).keys} & clips],
        absent=absent,
    )


def _block(work: WorkFolder, person: str, paths: Mapping[str, Path], rows: Sequence[Mapping[str, Any]]) -> None:
    """Blocks the person of this name. Raises DataError where there is none."""
    wanted = {str(row.get("key", "")) for row in rows if row.get("person") == person}
    if not wanted:
        raise DataError(f"only a person of {DECISIONS_FILE} can be kept out of other videos, got '{person[:100]}'")
    keys = {_source_key(row) for row in rows if row.get("key") in wanted} & paths.keys()
    candidates = [each for key in sorted(keys) for each in find_candidates(_source(key, paths[key]), work.outputs(key))]
    block_person(work, person, [each for each in candidates if each.key in wanted])


def _fingerprints(work: WorkFolder, key: str, path: Path) -> list[Fingerprint]:
    return fingerprints(_source(key, path), work.outputs(key))


def _source(key: str, path: Path) -> SourceVideo:
    # What stands beside the file does not matter here, and may be damaged.
    return SourceVideo(path=path, key=key, rights=Rights())


def _delete(path: Path) -> bool:
    """Deletes a file or folder; returns whether there was one. Raises OutputError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {os_error_text(error)}; remove it and call again") from error
    return True


def _matching(identifier: str, paths: Mapping[str, Path], rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Returns the keys of the sources that an identifier names."""
    path = Path(identifier).absolute()
    keys = {key for key in paths if len(identifier) >= _MIN_PREFIX and key.startswith(identifier)}
    keys |= {key for key, each in paths.items() if each == path}
    return keys | {_source_key(row) for row in rows if row.get("person") == identifier}


def _decisions(work: WorkFolder) -> list[dict[str, Any]]:
    path = work.folder / DECISIONS_FILE
    return [row for _, row in read_json_lines(path)] if path_exists(path) else []


def _source_key(row: Mapping[str, Any]) -> str:
    return str(row.get("key", "")).partition("-")[0]
