"""Locks: one process at a time writes an output. A lock ends with its process, however that ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from uniavgen.artifacts.error_text import not_written
from uniavgen.artifacts.names import name_tag
from uniavgen.errors import OutputError

_held_locks: Final[dict[Path, int]] = {}
"""Lock files and descriptors that this process holds, so that a command and the writers that it calls share a lock."""


@contextmanager
def exclusive_output(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the right to write the file or folder `path` until the block or the process ends, however it ends.

    The lock is a hidden file beside `path`. Within one process it may be taken several times. Folders above are made,
    and those that are empty in the end are removed again. Raises OutputError where another process holds it, unless
    `wait` says to wait for its end.
    """
    if not path.absolute().name:
        raise OutputError(f"the output {path} is the root of the file system; choose another place")
    lock = _lock_file(path)
    if lock in _held_locks:
        yield
        return
    created: list[Path] = []
    try:
        created = [folder for folder in lock.parents if not folder.exists()]
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock, path, wait)
    except OSError as error:
        _remove_empty(created)
        raise not_written(path, error) from error
    _held_locks[lock] = descriptor
    try:
        yield
    finally:
        del _held_locks[lock]
        # While it is still locked: whoever has opened it meanwhile finds that the name is gone and makes a new file.
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(created)


def lock_descriptor(path: Path) -> int:
    """Returns the open lock file of an output that this process holds."""
    return _held_locks[_lock_file(path)]


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, as far as they are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _lock_file(path: Path) -> Path:
    return path.absolute().with_name(f".{name_tag(path)}.lock")


def _locked(lock: Path, path: Path, wait: bool) -> int:
    """Returns a descriptor of the lock file that holds its lock. Raises OutputError where another process has it."""
    while True:
        if lock.is_symlink():
            lock.unlink()
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            if _flock(descriptor, wait) and _is_file_of(descriptor, lock):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputError(
                f"another process is writing {path}; wait until it has ended or choose another name"
            ) from error
        os.close(descriptor)


def _flock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        # Some network file systems have no locks; writing there is still atomic.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def _is_file_of(descriptor: int, path: Path) -> bool:
    """Returns whether `path` still names the open file, which another process may have deleted before it was locked."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
