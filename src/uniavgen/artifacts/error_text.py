"""What errors of libraries and of the operating system become in messages of ours."""

import errno
from pathlib import Path

from uniavgen.errors import OutputError


def first_line(error: BaseException) -> str:
    """Returns the first line of a library's error, shortened, to be quoted in a message of ours."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:200]


def os_error_text(error: OSError) -> str:
    """Returns what the operating system says, without codes and paths."""
    return (error.strerror or str(error)).lower()


def not_written(path: Path, error: OSError) -> OutputError:
    """Returns the error of an output that the operating system refuses, with what to do about it."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space or choose another place" if is_full else "choose another place"
    return OutputError(f"{path} could not be written: {os_error_text(error)}; {remedy}")
