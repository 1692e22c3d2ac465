"""Where work is done: in this process, in processes of this machine, or on a Ray cluster; with the same results.

A task is a callable that can be pickled before its first call. A job that raises an error of ours is a row with a
reason; a worker that dies costs its own job one try and no other job anything; a defect is raised when everything else
is done.
"""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

from uniavgen.artifacts import first_line
from uniavgen.errors import UniAVGenError

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_TRIES: Final = 2
"""Of a job whose worker dies. [ours]"""
_AHEAD: Final = 4
"""Jobs for each worker that may be done before an earlier one, where results come in order. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Job, Result]):
    """What became of a job."""

    job: Job
    result: Result | None = None
    """None where there is a reason."""
    reason: str = ""
    has_died: bool = False
    """Whether the reason is that its workers died."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a worker sends back."""

    result: Any = None
    reason: str = ""
    defect: str = ""
    """The traceback of an error that is not the job's."""


class WorkerDiedError(Exception):
    """A worker has ended without an answer; its text says how."""


class DefectError(Exception):
    """A job failed by a defect of the program; its text is the traceback where it happened."""


def attempt(task: Callable[[Any], Any], job: Any) -> Attempt:
    """Calls a task; its errors become values, which every kind of worker can send."""
    try:
        return Attempt(result=task(job))
    except UniAVGenError as error:
        return Attempt(reason=str(error))
    except MemoryError as error:
        return Attempt(reason=f"there is not enough memory ({first_line(error)})")
    except Exception:
        return Attempt(defect=traceback.format_exc())


class Executor(ABC):
    """Does jobs, `width` at a time."""

    width: int

    @abstractmethod
    def attempts(
        self, task: Callable[[Job], Result], jobs: Sequence[Job], max_ahead: int | None
    ) -> Iterator[tuple[int, Attempt | WorkerDiedError]]:
        """Yields number and answer of each job as they are done.

        max_ahead: how many jobs may be begun behind one that is not done; None for any number.
        """

    def map(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], *, in_order: bool = False
    ) -> Iterator[Outcome[Job, Result]]:
        """Yields what becomes of each job, as they are done or `in_order`.

        Raises DefectError behind the last outcome where jobs failed by defects, with the first one's traceback.
        """
        jobs, defects = list(jobs), []
        waiting: dict[int, Outcome[Job, Result]] = {}
        following = 0
        for number, answer in self.attempts(task, jobs, self.width * _AHEAD if in_order else None):
            if isinstance(answer, WorkerDiedError):
                reason = f"{answer}, in {MAX_TRIES} tries"
                outcome = Outcome(job=jobs[number], reason=reason, has_died=True)
            elif answer.defect:
                defects.append(answer.defect)
                last = answer.defect.rstrip().splitlines()[-1]
                outcome = Outcome(job=jobs[number], reason=f"a defect of the program: {last}")
            else:
                outcome = Outcome(job=jobs[number], result=answer.result, reason=answer.reason)
            waiting[number] = outcome
            if in_order:
                while following in waiting:
                    yield waiting.pop(following)
                    following += 1
            else:
                yield waiting.pop(number)
        if defects:
            raise DefectError(f"{len(defects)} jobs failed by a defect of the program, the first with\n{defects[0]}")


@dataclass(frozen=True)
class InProcess(Executor):
    """Does one job after the other, here."""

    width: int = field(default=1, init=False)

    def attempts(
        self, task: Callable[[Job], Result], jobs: Sequence[Job], max_ahead: int | None
    ) -> Iterator[tuple[int, Attempt | WorkerDiedError]]:
        """Yields each answer."""
        del max_ahead
        for number, job in enumerate(jobs):
            yield number, attempt(task, job)


@runtime_checkable
class Worker(Protocol):
    """Does one job at a time, elsewhere."""

    def submit(self, job: Any) -> None:
        """Begins a job."""
        ...

    def receive(self) -> Attempt:
        """Returns the answer. Raises WorkerDiedError where the worker has ended instead."""
        ...

    def close(self) -> None:
        """Ends the worker, whatever it does."""
        ...


class WorkerPool(Executor):
    """Gives jobs to workers; where one has died, a new one takes its job."""

    @abstractmethod
    def start(self, task: Callable[[Any], Any]) -> Worker:
        """Starts a worker."""

    @abstractmethod
    def wait(self, busy: Sequence[Worker]) -> Sequence[Worker]:
        """Returns workers that have answered or ended, at least one."""

    def attempts(
        self, task: Callable[[Job], Result], jobs: Sequence[Job], max_ahead: int | None
    ) -> Iterator[tuple[int, Attempt | WorkerDiedError]]:
        """Yields answers as they come."""
        tries = [0] * len(jobs)
        todo, busy, done = list(range(len(jobs))), {}, set()
        idle: list[Worker] = []
        first = 0
        try:
            while todo or busy:
                while first in done:
                    done.remove(first)
                    first += 1
                last = len(jobs) if max_ahead is None else first + max_ahead
                for number in list(islice((number for number in todo if number < last), self.width - len(busy))):
                    worker = idle.pop() if idle else self.start(task)
                    busy[worker] = number
                    todo.remove(number)
                    tries[number] += 1
                    worker.submit(jobs[number])
                if not todo:
                    # A worker that waits would hold what others need to start.
                    while idle:
                        idle.pop().close()
                for worker in self.wait(list(busy)):
                    number = busy.pop(worker)
                    try:
                        answer = worker.receive()
                        idle.append(worker)
                    except WorkerDiedError as error:
                        worker.close()
                        if tries[number] < MAX_TRIES:
                            todo.insert(0, number)
                            continue
                        answer = error
                    done.add(number)
                    yield number, answer
        finally:
            for worker in (*busy, *idle):
                worker.close()
