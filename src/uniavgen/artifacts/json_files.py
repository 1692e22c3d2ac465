"""Text and JSON that people or other programs have written: read in one place, which says what is wrong with it."""

import json
import math
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from uniavgen.artifacts.error_text import first_line, os_error_text
from uniavgen.errors import DataError, UniAVGenError

_MAX_TEXT_BYTES: Final = 2**28
"""Far more than any settings, index or tokenizer has; a larger file is not text that somebody meant to give."""
_REMEDY: Final = "restore it from its origin or make it again"


def check_regular_file(path: Path, error_class: type[UniAVGenError] = DataError) -> None:
    """Checks that `path` is a file, or a link to one, that can be read to its end.

    A pipe, socket or device is refused before it is opened, because that could wait without end. Raises `error_class`.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise error_class(f"{path} cannot be read: {os_error_text(error)}") from error
    if not stat.S_ISREG(mode):
        raise error_class(f"{path} is {_kind(mode)}, expected a file")


def read_text(path: Path, error_class: type[UniAVGenError] = DataError, remedy: str = _REMEDY) -> str:
    """Returns the content of a UTF-8 file without a byte order mark; newlines of every kind become `\\n`.

    Raises `error_class` where the file is missing, no regular file, larger than 256 MiB, or not UTF-8; `remedy` ends
    its sentence.
    """
    check_regular_file(path, error_class)
    try:
        size = path.stat().st_size
        if size > _MAX_TEXT_BYTES:
            raise error_class(f"{path} has {size} bytes, expected a text of at most {_MAX_TEXT_BYTES}; {remedy}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise error_class(f"{path} is not UTF-8 text (byte {error.start}); {remedy}") from error
    except OSError as error:
        raise error_class(f"{path} cannot be read: {os_error_text(error)}") from error


def read_json(path: Path, error_class: type[UniAVGenError] = DataError, remedy: str = _REMEDY) -> dict[str, Any]:
    """Returns the object that a JSON file holds.

    Raises `error_class` where the file cannot be read as text or holds something else; `remedy` ends its sentence.
    """
    return parse_json(read_text(path, error_class, remedy), str(path), error_class, remedy)


def read_json_lines(
    path: Path, error_class: type[UniAVGenError] = DataError, remedy: str = _REMEDY
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the objects of a file that holds one a line, each behind its place for errors; empty lines do not count.

    Raises `error_class` as `read_json` does.
    """
    for number, line in enumerate(read_text(path, error_class, remedy).split("\n"), start=1):
        if line.strip():
            origin = f"{path} line {number}"
            yield origin, parse_json(line, origin, error_class, remedy)


def parse_json(
    content: str | bytes, origin: str, error_class: type[UniAVGenError] = DataError, remedy: str = _REMEDY
) -> dict[str, Any]:
    """Returns the object that a JSON text holds. `origin` names the text in the error; see `read_json`."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        if not text.strip():
            raise error_class(f"{origin} is empty, expected a JSON object; {remedy}")
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
    except UnicodeDecodeError as error:
        raise error_class(f"{origin} is not UTF-8 text (byte {error.start}); {remedy}") from error
    except ValueError as error:
        raise error_class(f"{origin} is not JSON ({first_line(error)}); {remedy}") from error
    except RecursionError as error:
        raise error_class(f"{origin} is nested too deeply, expected a JSON object; {remedy}") from error
    if not isinstance(data, dict):
        raise error_class(f"{origin} holds {_JSON_TYPES[type(data)]}, expected a JSON object {{...}}; {remedy}")
    return data


_JSON_TYPES: Final = {
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _refuse_constant(name: str) -> NoReturn:
    # Python would take NaN and Infinity, which JSON does not have and no setting of ours can be.
    raise ValueError(f"{name} is no number")


def _finite_float(text: str) -> float:
    # Python would take 1e400 as infinity.
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for test, name in kinds.items() if test(mode)), "no regular file")
