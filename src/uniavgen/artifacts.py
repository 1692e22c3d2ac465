"""Files and folders on disk: written whole or not at all and by one process at a time, told apart by checksum, bound to
the settings they hold.

Imports nothing heavy, so that every layer and the command line may use it.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from uniavgen.errors import DataError, OutputError

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MAX_NAME_BYTES: Final = 255
"""On every file system in use: ext4, XFS, Btrfs, APFS, NTFS."""
_held_locks: Final[dict[Path, int]] = {}
"""Lock files and descriptors that this process holds, so that a command and the writers that it calls share a lock."""


def check_writable(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Checks that a file may be written at `path`: its ending, its folder, and that it is none of the inputs.

    Leaves nothing behind. Missing folders are accepted where they could be made. Raises OutputError.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"the output {path} must end in {' or '.join(suffixes)}")
    if len(os.fsencode(path.name)) > _MAX_NAME_BYTES:
        raise OutputError(
            f"the name of the output {path} has {len(os.fsencode(path.name))} bytes, at most {_MAX_NAME_BYTES} can be "
            "stored; choose a shorter one"
        )
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"the output {path} exists and is no regular file; choose another name")
        for source in inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise OutputError(f"the output {path} is also an input and would be overwritten; choose another name")
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise OutputError(f"the output {path} cannot be written: {folder} is not a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"the output {path} cannot be written: {os_error_text(error)}; choose another place"
        ) from error


@contextmanager
def exclusive_output(path: Path) -> Iterator[None]:
    """Holds the right to write the file or folder `path` until the block or the process ends, however it ends.

    The lock is a hidden file beside `path`. Within one process it may be taken several times. Folders above are made.
    Raises OutputError where another process holds it.
    """
    lock = _lock_file(path)
    if lock in _held_locks:
        yield
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(lock, path)
    except OSError as error:
        raise _not_written(path, error) from error
    _held_locks[lock] = descriptor
    try:
        yield
    finally:
        del _held_locks[lock]
        # While it is still locked: whoever has opened it meanwhile finds that the name is gone and makes a new file.
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block succeeds and is deleted otherwise.

    Readers see the old file or the complete new one, also when the disk fills up or the user interrupts. What a killed
    process has left of the same output is removed. Folders are made. Raises OutputError where the operating system
    refuses or another process writes `path`.
    """
    with exclusive_output(path):
        # Beside it, because a rename is atomic only within one file system; the ending stays for writers that read it.
        # Random, so that nobody can plant a link there; short, because names end at 255 bytes.
        partial = path.with_name(f".{_tag(path)}.{secrets.token_hex(16)}.partial{path.suffix}")
        try:
            _replace_leftover(path, partial)
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o666))
            yield partial
            publish(partial, path)
        except OSError as error:
            raise _not_written(path, error) from error
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which replaces `path` when the block succeeds and is deleted otherwise.

    Its name is always `partial_path(path)`, so that a run clears what a killed one has left. Raises OutputError where
    the operating system refuses.
    """
    with exclusive_output(path):
        partial = partial_path(path)
        try:
            if partial.is_symlink():
                partial.unlink()
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            publish(partial, path)
        except OSError as error:
            raise _not_written(path, error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def partial_path(path: Path) -> Path:
    """Returns the hidden name under which a folder grows, which is the same for every run."""
    name = f".{path.name}.partial"
    return path.with_name(name if len(os.fsencode(name)) <= _MAX_NAME_BYTES else f".{_tag(path)}.partial")


def publish(partial: Path, path: Path) -> None:
    """Moves a complete file or folder to its final name, once its content is on the disk."""
    if partial.is_file():
        _flush_to_disk(partial)
        partial.replace(path)
        return
    for file in partial.rglob("*"):
        if file.is_file():
            _flush_to_disk(file)
    # A folder cannot be renamed onto one that is not empty, so the old one steps aside for a moment.
    replaced = path.with_name(f".{path.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if path.exists():
        path.rename(replaced)
    partial.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return _file_checksum(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(_file_checksum(file).encode())
    return digest.hexdigest()


def record_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that the folder of `path` is made with, so that a second run continues with the same ones.

    Raises DataError where the file exists and holds other settings.
    """
    text = json.dumps(dict(settings), indent=1, sort_keys=True) + "\n"
    if not path.is_file():
        write_text(path, text)
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); name another folder") from error
    # Compared as JSON: tuples and lists are the same thing in a file.
    current = json.loads(text)
    changed = sorted(key for key in {*earlier, *current} if earlier.get(key) != current.get(key))
    if changed:
        raise DataError(
            f"{path.parent} was made with another {', '.join(changed)}; name another folder or the same options"
        )


def is_hub_name(text: str) -> bool:
    """Returns whether a text could be OWNER/NAME on the Hugging Face hub."""
    return _HUB_NAME.fullmatch(text) is not None


def first_line(error: BaseException) -> str:
    """Returns the first line of a library's error, shortened, to be quoted in a message of ours."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]


def os_error_text(error: OSError) -> str:
    """Returns what the operating system says, without codes and paths."""
    return (error.strerror or str(error)).lower()


def _not_written(path: Path, error: OSError) -> OutputError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space or choose another place" if is_full else "choose another place"
    return OutputError(f"{path} could not be written: {os_error_text(error)}; {remedy}")


def _tag(path: Path) -> str:
    """Returns a short name for an output among those of its folder."""
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def _lock_file(path: Path) -> Path:
    return path.absolute().with_name(f".{_tag(path)}.lock")


def _locked(lock: Path, path: Path) -> int:
    """Returns a descriptor of the lock file that holds its lock. Raises OutputError where another process has it."""
    while True:
        if lock.is_symlink():
            lock.unlink()
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            if _flock(descriptor) and _is_file_of(descriptor, lock):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputError(
                f"another process is writing {path}; wait until it has ended or choose another name"
            ) from error
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def _replace_leftover(path: Path, partial: Path) -> None:
    """Notes the temporary name in the lock file; deletes the file whose name a killed process has noted there."""
    descriptor = _held_locks[_lock_file(path)]
    noted = os.pread(descriptor, 256, 0).decode(errors="replace")
    if re.fullmatch(rf"\.{_tag(path)}\.[0-9a-f]{{32}}\.partial{re.escape(path.suffix)}", noted):
        path.with_name(noted).unlink(missing_ok=True)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, os.fsencode(partial.name), 0)


def _file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    # Without it a crash after the rename could leave a file of the right name without its content.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
