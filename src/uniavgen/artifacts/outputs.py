"""Files and folders that are written whole or not at all, and by one process at a time."""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uniavgen.artifacts.error_text import not_written, os_error_text, raising_os_errors
from uniavgen.artifacts.locks import exclusive_output, lock_descriptor
from uniavgen.artifacts.names import MAX_NAME_BYTES, name_tag, path_exists
from uniavgen.errors import OutputError


def check_writable(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Checks that a file may be written at `path`: its ending, its folder, and that it is none of the inputs.

    Leaves nothing behind. Missing folders are accepted where they could be made. Raises OutputError.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"the output {path} must end in {' or '.join(suffixes)}")
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise OutputError(
            f"the name of the output {path} has {len(os.fsencode(path.name))} bytes, at most {MAX_NAME_BYTES} can be "
            "stored; choose a shorter one"
        )
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"the output {path} exists and is no regular file; choose another name")
        for source in inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise OutputError(f"the output {path} is also an input and would be overwritten; choose another name")
    except OSError as error:
        raise _refused(path, error) from error
    _check_parent(path)


def check_output_folder(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Checks that a folder may be made at `path`, or replaced where it exists, and that no input would be lost by that.

    Leaves nothing behind. Raises OutputError.
    """
    if path_exists(path) and not path.is_dir():
        raise OutputError(f"the output {path} exists and is no folder; choose another name")
    for source in inputs:
        # Not `resolve`, which raises for links in a circle.
        if Path(os.path.realpath(source)).is_relative_to(os.path.realpath(path)):
            raise OutputError(f"the output {path} holds the input {source}, which would be lost; choose another name")
    _check_parent(path)


def _check_parent(path: Path) -> None:
    """Checks that the folder of an output takes files, or could be made. Raises OutputError."""
    try:
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise OutputError(f"the output {path} cannot be written: {folder} is not a folder; choose another place")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"the output {path} cannot be written: {os_error_text(error)}; choose another place")


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
        partial = path.with_name(f".{name_tag(path)}.{secrets.token_hex(16)}.partial{path.suffix}")
        try:
            _replace_leftover(path, partial)
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o666))
            with raising_os_errors():
                yield partial
            publish(partial, path)
        except OSError as error:
            raise not_written(path, error) from error
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path, resume: bool = False) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which replaces `path` when the block succeeds and is deleted otherwise.

    Its name is always `partial_path(path)`, so that a run clears what a killed one has left.
    resume: what a killed or interrupted run has left is not cleared, and an interruption leaves it.
    Raises OutputError where the operating system refuses, another process writes `path`, or this one works in it.
    """
    if Path.cwd().is_relative_to(os.path.realpath(path)):
        raise OutputError(f"the output '{path}' is or holds the current folder, which cannot be replaced; name another")
    with exclusive_output(path):
        partial, is_interrupted = partial_path(path), False
        try:
            if not resume or partial.is_symlink() or not partial.is_dir():
                _remove(partial)
            partial.mkdir(exist_ok=resume)
            with raising_os_errors():
                yield partial
            publish(partial, path)
        except KeyboardInterrupt:
            is_interrupted = True
            raise
        except OSError as error:
            raise not_written(path, error) from error
        finally:
            if not (resume and is_interrupted):
                shutil.rmtree(partial, ignore_errors=True)


def partial_path(path: Path) -> Path:
    """Returns the hidden name under which a folder grows, which is the same for every run."""
    name = f".{path.name}.partial"
    return path.with_name(name if len(os.fsencode(name)) <= MAX_NAME_BYTES else f".{name_tag(path)}.partial")


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
    replaced = path.with_name(f".{name_tag(path)}.replaced")
    _remove(replaced)
    if path_exists(path):
        path.rename(replaced)
    partial.rename(path)
    _remove(replaced)


def _remove(path: Path) -> None:
    """Deletes a folder with its content, or a link, a pipe or a file in its place."""
    # `rmtree` would open a pipe and wait for its other end.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    # Without it a crash after the rename could leave a file of the right name without its content.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace_leftover(path: Path, partial: Path) -> None:
    """Notes the temporary name in the lock file; deletes the file whose name a killed process has noted there."""
    descriptor = lock_descriptor(path)
    noted = os.pread(descriptor, 256, 0).decode(errors="replace")
    if re.fullmatch(rf"\.{name_tag(path)}\.[0-9a-f]{{32}}\.partial{re.escape(path.suffix)}", noted):
        path.with_name(noted).unlink(missing_ok=True)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, os.fsencode(partial.name), 0)
