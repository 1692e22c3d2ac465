"""Runs command lines in forked processes, which start at once because everything is imported already."""

import contextlib
import faulthandler
import hashlib
import importlib
import os
import resource
import selectors
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

LIMIT_S = 120.0
"""Of one command, hundreds of times what it takes on an idle core."""
MEMORY_BYTES = 6 * 2**30
"""Address space of one command, so that one that asks for too much ends and not the machine."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None
    """Exit code; minus the number of the signal that ended it; None where it ran past the limit."""
    output: str
    """Standard output and standard error."""
    seconds: float
    peak_bytes: int
    """Largest memory in use."""


def run_forked(
    work: Callable[[], int],
    folder: Path,
    limit_s: float = LIMIT_S,
    memory: int = MEMORY_BYTES,
    kill_after_s: float | None = None,
) -> Outcome:
    """Calls `work` in a child process whose current folder is `folder` and whose exit code is the result.

    With `kill_after_s` it and its group are killed after so long, as by `kill -9`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _become(work, folder, writer, memory)
    os.close(writer)
    output, ran_out = _read(reader, child, started + limit_s, None if kill_after_s is None else started + kill_after_s)
    _, status, usage = os.wait4(child, 0)
    code = None if ran_out else os.waitstatus_to_exitcode(status)
    return Outcome(code, output.decode(errors="replace"), time.monotonic() - started, usage.ru_maxrss * 1024)


def _become(work: Callable[[], int], folder: Path, writer: int, memory: int) -> None:
    """Runs in the child and never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        faulthandler.register(signal.SIGUSR1, file=2)
        # A test runner has put its own in their place, and made errors of warnings.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False, errors="replace") for number in (1, 2))
        warnings.resetwarnings()
        # The lock of its progress bars is shared with all forks: one that is killed while it holds it stops all later.
        tqdm.set_lock(threading.RLock())
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _read(reader: int, child: int, deadline: float, kill_at: float | None) -> tuple[bytes, bool]:
    """Returns all that the child writes and whether it took too long; then its group is killed.

    Before that it is asked for its stack, which is then the end of what it writes.
    """
    chunks, ran_out = [], False
    with selectors.DefaultSelector() as selector, os.fdopen(reader, "rb", buffering=0) as pipe:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            until = deadline if kill_at is None else min(deadline, kill_at)
            if selector.select(max(until - time.monotonic(), 0)):
                chunk = pipe.read(65536)
                if not chunk:
                    return b"".join(chunks), ran_out
                chunks.append(chunk)
            if kill_at is not None and time.monotonic() > kill_at:
                _kill_group(child)
                kill_at = None
            elif time.monotonic() > deadline:
                _kill_group(child) if ran_out else os.kill(child, signal.SIGUSR1)
                ran_out, deadline = True, time.monotonic() + 1


def _kill_group(child: int) -> None:
    # It may have ended, and have begun without a group yet.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)


def preload(names: Sequence[str]) -> None:
    """Imports modules that a command has loaded, so that commands in later children start at once.

    The command itself ran in a child: its threads would stay in this process, and a fork copies none of them but
    the locks that they hold.
    """
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def files_below(*folders: Path) -> dict[str, str]:
    """Returns path to content of everything below folders: a checksum, or what it is where it is no regular file."""
    found = {}
    for folder in folders:
        for root, names, files in os.walk(folder):
            for name in [*names, *files]:
                path = Path(root) / name
                found[str(path)] = _content(path)
    return found


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_dir():
        return "folder"
    if not path.is_file():
        return "special"
    if path.stat().st_size > 2**28:
        return f"{path.stat().st_size} bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sentences(output: str) -> Sequence[str]:
    """Returns the error sentences of an output."""
    return [line for line in output.replace("\r", "\n").splitlines() if line.startswith("uniavgen: ")]
