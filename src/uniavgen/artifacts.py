"""Opening inputs with errors a user can mend, and writing outputs whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uniavgen.errors import DataError, MediaError


def check_readable(path: Path) -> Path:
    """`path` as an absolute path of a file with something in it; MediaError otherwise."""
    try:
        if path.is_dir():
            raise MediaError(f"{path} is a folder; name a file in it")
        if not path.exists():
            raise MediaError(f"{path} does not exist; check its name")
        if not path.is_file():
            raise MediaError(f"{path} is not a regular file; copy its content to one first")
        if path.stat().st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes); was it saved or downloaded completely?")
        with path.open("rb"):
            pass
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {reason(error)}") from None
    return path.absolute()


def check_writable(path: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Raise MediaError unless a file may be written at `path`: its ending, its folder, and that it is no input.

    Leaves nothing behind. Missing folders are fine where they could be made.
    """
    if path.suffix.lower() not in suffixes:
        raise MediaError(f"the output {path} must end in {' or '.join(suffixes)}")
    try:
        if path.exists() and not path.is_file():
            raise MediaError(f"the output {path} exists and is no regular file; choose another name")
        for source in inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise MediaError(f"the output {path} is also an input and would be overwritten; choose another name")
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise MediaError(f"the output {path} cannot be written: {folder} is not a folder")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MediaError(f"the output {path} cannot be written: {reason(error)}; choose another place") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; becomes `path` when the block ends well, vanishes otherwise.

    Readers see the old file or the complete new one, also when the disk fills up or the user interrupts. Folders
    are made. MediaError where the operating system refuses.
    """
    # Beside it, because a rename is atomic only within one file system; the ending stays for writers that read it.
    partial = path.with_name(f".{path.stem[:80]}.{os.getpid()}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise MediaError(
            f"{path} could not be written: {reason(error)}; free some space or choose another place"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def record_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that a folder is made with to the JSON file `path` in it, or compares them with those there.

    Raises DataError, which names the settings that differ, where the folder was made with others.
    """
    text = json.dumps(dict(settings), indent=1, sort_keys=True) + "\n"
    if path.is_file():
        # Compared after a round trip, since JSON knows no tuples.
        recorded, current = json.loads(path.read_text()), json.loads(text)
        changed = sorted(key for key in {*recorded, *current} if recorded.get(key) != current.get(key))
        if changed:
            raise DataError(
                f"{path.parent} was made with another {', '.join(changed)}; name another folder or the same options"
            )
        return
    with whole_file(path) as partial:
        partial.write_text(text)


def reason(error: OSError) -> str:
    """What the operating system says, without codes and paths."""
    return (error.strerror or str(error)).lower()
