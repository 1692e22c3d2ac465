"""What errors of libraries and of the operating system become in messages of ours."""

import errno
import os
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from uniavgen.errors import OutputError

PICKLE_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
)
"""What reading a damaged pickle raises. It is a program for a small machine, so it may fail in any way programs do."""


def first_line(error: BaseException) -> str:
    """Returns the first line of a library's error, shortened, to be quoted in a message of ours."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]


def os_error_text(error: OSError) -> str:
    """Returns what the operating system says, without codes and paths."""
    return (error.strerror or str(error)).lower()


@contextmanager
def raising_os_errors() -> Iterator[None]:
    """Raises OSError where safetensors reports an error of the operating system, such as a full disk, as its own."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


def not_written(path: Path, error: OSError) -> OutputError:
    """Returns the error of an output that the operating system refuses, with what to do about it."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space or choose another place" if is_full else "choose another place"
    return OutputError(f"{path} could not be written: {os_error_text(error)}; {remedy}")
