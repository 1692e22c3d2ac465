"""Files and folders on disk: written whole or not at all, told apart by checksum, bound to the settings they hold.

Imports nothing heavy, so that every layer and the command line may use it.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from uniavgen.errors import DataError, OutputError

_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def check_writable(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Checks that a file may be written at `path`: its ending, its folder, and that it is none of the inputs.

    Leaves nothing behind. Missing folders are accepted where they could be made. Raises OutputError.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"the output {path} must end in {' or '.join(suffixes)}")
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
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block succeeds and is deleted otherwise.

    Readers see the old file or the complete new one, also when the disk fills up or the user interrupts. Folders
    are made. Raises OutputError where the operating system refuses.
    """
    # Beside it, because a rename is atomic only within one file system; the ending stays for writers that read it.
    partial = path.with_name(f".{path.stem[:80]}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    partial = partial_path(path)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        publish(partial, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_path(path: Path) -> Path:
    """Returns the hidden name under which an output grows."""
    return path.with_name(f".{path.name}.partial")


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
    return OutputError(f"{path} could not be written: {os_error_text(error)}; free some space or choose another place")


def _file_checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    # Without it a crash after the rename could leave a file of the right name without its content.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
