"""Workers that are processes of this machine."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Final

from uniavgen.cpu import configure_threads
from uniavgen.data_engine.executors import Attempt, Worker, WorkerDiedError, WorkerPool, attempt

_IDLE_END_S: Final = 0.5
"""A process that waits for jobs ends by itself within this time."""


@dataclass(frozen=True)
class ProcessPool(WorkerPool):
    """Does jobs in processes of their own, which end with this one, however it ends."""

    width: int

    def start(self, task: Callable[[Any], Any]) -> "ProcessWorker":
        """Starts a process."""
        return ProcessWorker(task)

    def wait(self, busy: Sequence[Worker]) -> Sequence[Worker]:
        """Returns processes that have answered or ended."""
        by_pipe = {worker.pipe: worker for worker in busy if isinstance(worker, ProcessWorker)}
        return [by_pipe[pipe] for pipe in connection.wait(list(by_pipe))]  # pyright: ignore[reportArgumentType]


class ProcessWorker:
    """A process and the pipe to it. It is spawned: forked ones would hold the pipes of each other."""

    def __init__(self, task: Callable[[Any], Any]) -> None:
        context = get_context("spawn")
        self.pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, task), daemon=True)
        self._process.start()
        end.close()

    def submit(self, job: Any) -> None:
        """Sends a job; that a process has ended is seen when it is waited for."""
        try:
            self.pipe.send(job)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> Attempt:
        """Returns the answer. Raises WorkerDiedError."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise WorkerDiedError(f"the process that worked on it died ({_how_it_ended(self._process)})") from error

    def close(self) -> None:
        """Ends the process, by force where it works: what it writes is whole or not there."""
        self.pipe.close()
        self._process.join(_IDLE_END_S)
        self._process.kill()
        self._process.join()


def _how_it_ended(process: Any) -> str:
    code = process.exitcode or 0
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _serve(pipe: Any, task: Callable[[Any], Any]) -> None:
    """Does jobs until the other end is gone."""
    # Ctrl-C is for the process that started this one; it closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    configure_threads()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(task, job))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
