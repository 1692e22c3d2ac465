"""Folders of shards on a disk or in a store that fsspec reaches, read by byte ranges and with patience.

Reads that fail are tried again after a pause; what is missing, forbidden or shorter than asked for is not.
"""

import logging
import os
import random
import stat
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from uniavgen.artifacts import first_line, os_error_text
from uniavgen.errors import DataError

logger = logging.getLogger(__name__)

MAX_TRIES: Final = 5
FIRST_PAUSE_S: Final = 0.5
"""Before the second try; each further pause is twice as long, and all vary by half so that processes spread out."""
_TOGETHER: Final = 1000
_PERMANENT: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a folder."""

    path: str
    """In its file system."""
    size: int
    modified_s: float
    """Seconds since 1970; 0 where the store does not say."""
    is_regular: bool

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Storage:
    """A local folder or an fsspec URL. May be used in forked and in spawned processes.

    Raises DataError for a URL that fsspec does not know, and for reads that fail, with what failed.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    @property
    def files(self) -> Any:
        """The fsspec file system."""
        return self._file_system()[0]

    @property
    def root(self) -> str:
        """Path of the folder or tar file in its file system."""
        return self._file_system()[1]

    @property
    def is_local(self) -> bool:
        """Whether the folder is one of the operating system."""
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self.files, LocalFileSystem)

    def path(self, name: str) -> str:
        """Returns the path of a file of the folder."""
        folder, _ = self._folder
        return f"{folder.rstrip('/')}/{name}"

    @property
    def prefix(self) -> str:
        """With what the names of the files begin, where the URL names a tar file; empty for a folder."""
        return self._folder[1]

    def list_files(self) -> dict[str, StoredFile]:
        """Returns name to file of the folder, without hidden ones, in order of names; nothing where it does not exist.

        Where the URL names a tar file, that is the tar and what lies beside it under its name.
        """
        (folder, stem), listed = self._folder, _list_local if self.is_local else _list_remote
        files = self._retried(folder, lambda: listed(self.files, folder))
        files.sort(key=lambda file: file.name)
        return {file.name: file for file in files if file.name[0] != "." and file.name.startswith(stem)}

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Returns the bytes `start` to `stop` - 1 of a file."""
        return self._retried(path, lambda: self.files.cat_file(path, start=start, end=stop))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Returns several parts of a file: on a disk it is opened once, from a store they are fetched together."""
        if self.is_local:
            return self._retried(path, lambda: _read_opened(self.files, path, ranges))
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        paths = [path] * len(ranges)
        return self._retried(path, lambda: self.files.cat_ranges(paths, starts, stops, on_error="raise"))

    def read_files(self, paths: Sequence[str]) -> list[bytes]:
        """Returns the contents of small files; from a store they are fetched together."""
        if self.is_local:
            return [self.read(path) for path in paths]
        contents: list[bytes] = []
        for first in range(0, len(paths), _TOGETHER):
            some = list(paths[first : first + _TOGETHER])
            found = self._retried(some[0], partial(self.files.cat, some, on_error="raise"))
            contents += [found[path] for path in some] if isinstance(found, dict) else [found]
        return contents

    def scan(self, path: str, scan: Callable[[str, IO[bytes]], ResultT]) -> ResultT:
        """Returns what `scan` makes of the path and the open file."""

        def scanned() -> ResultT:
            with self.files.open(path) as file:
                return scan(path, file)

        return self._retried(path, scanned)

    def fetch(self, path: str, target: Path) -> None:
        """Copies a file to the local disk."""
        self._retried(path, lambda: self.files.get_file(path, str(target)))

    def find(self, path: str) -> StoredFile | None:
        """Returns what a file is now, None where there is none."""
        return self._retried(path, lambda: _find(self.files, path))

    def list_tree(self, path: str | None = None) -> list[StoredFile]:
        """Returns all files of a folder and of those within it; of the whole store where none is named."""
        folder = self.root if path is None else path
        return self._retried(folder, lambda: _list_tree(self.files, folder))

    def upload(self, source: Path, path: str) -> None:
        """Copies a file of the local disk to the store."""
        self._retried(path, lambda: self.files.put_file(str(source), path), "written")

    def remove(self, path: str) -> None:
        """Deletes a file, or a folder with all its files; nothing happens where there is none."""
        self._retried(path, lambda: _remove(self.files, path), "deleted")

    def _retried(self, path: str, read: Callable[[], ResultT], verb: str = "read") -> ResultT:
        for attempt in range(1, MAX_TRIES + 1):
            try:
                return read()
            except _PERMANENT as error:
                raise _unusable(path, verb, error) from error
            except _transient_errors() as error:
                if attempt == MAX_TRIES or self.is_local:
                    raise _unusable(path, verb, error, attempt) from error
                tries = f"try {attempt} of {MAX_TRIES}"
                logger.warning("%s could not be %s (%s), %s", path, verb, first_line(error), tries)
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")

    @cached_property
    def _folder(self) -> tuple[str, str]:
        """Path of the folder, and with what the names of its files begin."""
        if not self.root.endswith(".tar") or not self.files.isfile(self.root):
            return self.root, ""
        folder, _, name = self.root.rpartition("/")
        return folder or "/", name.removesuffix("tar")

    def _file_system(self) -> tuple[Any, str]:
        # Made anew in each process: the threads of an asynchronous file system do not survive a fork.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *_open(self.url))
        return self._opened[1:]


def is_url(text: str) -> bool:
    """Returns whether a text names a store rather than a local path."""
    return "://" in text


def _open(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise DataError(f"{url} needs a package that is missing ({error}); install uniavgen[s3] for S3") from error
    except ValueError as error:
        raise DataError(f"{url} cannot be opened ({error}); give a folder or a URL of fsspec") from error


def _list_local(_files: Any, root: str) -> list[StoredFile]:
    # Ten times as fast as fsspec's, and what a link leads to counts.
    if not Path(root).is_dir():
        return []
    with os.scandir(root) as entries:
        return [_local_file(entry) for entry in entries]


def _local_file(entry: "os.DirEntry[str]") -> StoredFile:
    try:
        status = entry.stat()
    except FileNotFoundError:  # A link into nothing.
        return StoredFile(path=entry.path, size=0, modified_s=0.0, is_regular=False)
    return StoredFile(
        path=entry.path, size=status.st_size, modified_s=status.st_mtime, is_regular=stat.S_ISREG(status.st_mode)
    )


def _list_remote(files: Any, root: str) -> list[StoredFile]:
    files.invalidate_cache()
    try:
        entries = files.ls(root, detail=True)
    except FileNotFoundError:
        return []
    return [_remote_file(entry) for entry in entries]


def _list_tree(files: Any, root: str) -> list[StoredFile]:
    files.invalidate_cache()
    try:
        return [_remote_file(entry) for entry in files.find(root, detail=True).values()]
    except FileNotFoundError:
        return []


def _find(files: Any, path: str) -> StoredFile | None:
    files.invalidate_cache()
    try:
        return _remote_file(files.info(path))
    except FileNotFoundError:
        return None


def _remove(files: Any, path: str) -> None:
    files.invalidate_cache()
    try:
        files.rm(path, recursive=True)
    except FileNotFoundError:
        return


def _remote_file(entry: dict[str, Any]) -> StoredFile:
    return StoredFile(
        path=entry["name"],
        size=entry.get("size") or 0,
        modified_s=_modified_s(entry),
        is_regular=entry["type"] == "file",
    )


def _read_opened(files: Any, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    parts = []
    with files.open(path) as file:
        for start, stop in ranges:
            file.seek(start)
            parts.append(file.read(stop - start))
    return parts


def _transient_errors() -> tuple[type[Exception], ...]:
    """Returns what may go away by itself. File systems over HTTP let the errors of aiohttp through."""
    aiohttp = sys.modules.get("aiohttp")
    return (OSError,) if aiohttp is None else (OSError, aiohttp.ClientError)


def _unusable(path: str, verb: str, error: Exception, tries: int = 1) -> DataError:
    reason = os_error_text(error) if isinstance(error, OSError) else first_line(error)
    often = f" after {tries} tries" if tries > 1 else ""
    return DataError(f"{path} cannot be {verb}{often}: {reason}")


def _modified_s(entry: dict[str, Any]) -> float:
    """Returns when a file was written, which every file system calls otherwise."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
    return 0.0
