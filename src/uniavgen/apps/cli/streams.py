"""The standard streams of a command: closed pipes, full disks and narrow encodings are no bugs of it."""

import io
import os
import sys
from pathlib import Path
from typing import NoReturn

from uniavgen.artifacts import os_error_text
from uniavgen.errors import OutputError


class ClosedPipeError(OutputError):
    """Whoever read what the command prints has gone."""


class _StandardStream(io.TextIOWrapper):
    """A standard stream whose failed writes are errors of ours; from then on it writes to the null device."""

    def write(self, text: str) -> int:
        # typer tries an empty text to see whether a stream is open, which a full disk refuses too.
        if text == "":
            return 0
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> NoReturn:
        # Python flushes the streams when it ends; what is left in them must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        kind = ClosedPipeError if isinstance(error, BrokenPipeError) else OutputError
        raise kind(f"what the command prints could not be written: {os_error_text(error)}; print elsewhere") from error


def prepare_streams() -> None:
    """Replaces closed streams by the null device, and lets no encoding lack a letter."""
    # In this order, so that each gets its own number and no file that is opened later does.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        encoding = stream.encoding
        setattr(sys, name, _StandardStream(stream.detach(), encoding, "backslashreplace", line_buffering=True))
