"""Finds the index of a feature set, or makes it: beside the shards on a disk, in a local cache for a store."""

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from uniavgen.artifacts import atomic_file, exclusive_output, path_exists, write_text
from uniavgen.data.feature_index import FeatureIndex
from uniavgen.data.index_builder import shard_checksums, write_feature_index
from uniavgen.data.shards import shard_files
from uniavgen.data.storage import Storage, StoredFile
from uniavgen.errors import DataError

logger = logging.getLogger(__name__)

INDEX_FILE: Final = "index.safetensors"
UNFINISHED_FILE: Final = "unfinished.json"
"""Lies beside features as long as `uniavgen prepare` has not written all of them."""


def open_feature_index(storage: Storage, listing: Mapping[str, StoredFile], cache: Path) -> FeatureIndex:
    """Opens the index of the features in a folder; makes or extends it where it is missing or older than the shards.

    cache: local folder for the indexes of stores and of folders that cannot be written; it is made if needed. Raises
    DataError for a folder without shards, or with features that are not all there.
    """
    if not shard_files(listing):
        raise DataError(f"no shards (*.tar) in {storage.url}; give a folder that `uniavgen prepare` wrote")
    if UNFINISHED_FILE in listing:
        raise DataError(
            f"the features in {storage.url} are half prepared; run `uniavgen prepare` with the same options again, or "
            f"delete {UNFINISHED_FILE} there to use those that are ready"
        )
    beside, cached = Path(storage.path(index_name(storage))), cache / f"{_digest(storage.url)}.{INDEX_FILE}"
    for path in (beside, cached) if storage.is_local else (cached,):
        index = _fresh_index(path, storage, listing)
        if index is not None:
            return index
    return update_feature_index(
        beside if storage.is_local and os.access(beside.parent, os.W_OK) else cached, storage, listing
    )


def begin_features(folder: Path) -> None:
    """Notes in a local folder that its features are not all there, until `finish_features`."""
    write_text(folder / UNFINISHED_FILE, '{"remedy": "run uniavgen prepare again"}\n')


def finish_features(folder: Path) -> None:
    """Brings the index of a local folder up to date, and notes that its features are all there."""
    storage = Storage(folder)
    update_feature_index(folder / INDEX_FILE, storage, storage.list_files())
    (folder / UNFINISHED_FILE).unlink(missing_ok=True)


def index_name(storage: Storage) -> str:
    """Returns the file name of the index of a folder, or of one tar file."""
    return storage.prefix + INDEX_FILE


def update_feature_index(path: Path, storage: Storage, listing: Mapping[str, StoredFile]) -> FeatureIndex:
    """Makes the index `path` of a folder, extends it, or fetches it from a store. Other processes wait meanwhile."""
    with exclusive_output(path, wait=True):
        index = _fresh_index(path, storage, listing) or _fetched_index(path, storage, listing)
        if index is None:
            if not storage.is_local:
                logger.warning("every clip of %s is looked at, because it holds no index of its shards", storage.url)
            write_feature_index(path, storage, listing, path if _read(path) else None)
            index = FeatureIndex(path)
    return index


def _fetched_index(path: Path, storage: Storage, listing: Mapping[str, StoredFile]) -> FeatureIndex | None:
    """Copies the index of a store to `path`; returns None where there is none that fits the shards."""
    remote = listing.get(index_name(storage))
    if storage.is_local or remote is None:
        return None
    with atomic_file(path) as partial:
        storage.fetch(remote.path, partial)
        # Of the store's clock, to be compared with the times of the shards.
        os.utime(partial, (remote.modified_s, remote.modified_s))
    return _fresh_index(path, storage, listing)


def _fresh_index(path: Path, storage: Storage, listing: Mapping[str, StoredFile]) -> FeatureIndex | None:
    """Returns the index in a file if it is whole and of these shards, otherwise None."""
    index, shards = _read(path), shard_files(listing)
    if index is None or list(index.shards) != [file.name for file in shards]:
        return None
    if index.arrays["shard_bytes"].tolist() != [file.size for file in shards]:
        return None
    written_s = path.stat().st_mtime
    # Copied folders have files in any order of time, so the content of shards that are newer decides.
    newer = [number for number, file in enumerate(shards) if file.modified_s >= written_s]
    if newer:
        checksums = shard_checksums(storage, listing, [shards[number] for number in newer])
        if 0 in checksums or checksums != index.arrays["shard_crc32"][newer].tolist():
            return None
        with suppress(OSError):
            os.utime(path)
    return index


def _read(path: Path) -> FeatureIndex | None:
    """Returns the index in a file; None where it is missing, damaged, or of another version."""
    if not path_exists(path):
        return None
    try:
        return FeatureIndex(path)
    except DataError as error:
        logger.warning("%s", error)
        return None


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]
