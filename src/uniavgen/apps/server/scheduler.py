"""Runs the jobs of the store one after the other on a device, and cleans up behind them.

Two threads: one claims jobs and has them made, one deletes what has expired and frees what other replicas have lost.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy.exc import OperationalError

from uniavgen.apps.server.config import ServerConfig
from uniavgen.apps.server.device_worker import (
    DeviceProcessEndedError,
    DeviceWorker,
    JobFailedError,
    JobStoppedError,
    UnusableModelError,
)
from uniavgen.apps.server.job_files import JobFiles
from uniavgen.apps.server.job_store import MAX_ATTEMPTS, JobRecord, JobStore, Status
from uniavgen.apps.server.metrics import ServerMetrics
from uniavgen.errors import DataError

logger = logging.getLogger(__name__)
_IDLE_S: Final = 1.0
"""Seconds between two looks for jobs that another replica has taken from a client."""
_SWEEP_S: Final = 15.0
_RENEW_S: Final = 0.5
"""Shortest time between two notes of a job's progress."""
_RESTART_S: Final = 5.0
"""Pause before the process of the device is started again after it could not be."""
_RETRY_S: Final = 1.0
"""Pause before a database that does not answer is asked again."""
_DELETE_WAIT_S: Final = 20.0
_LOOK_S: Final = 0.05
_AVERAGE_OF: Final = 20
_NO_STORE: Final = "the store of clips did not answer; ask for the clip again"

ResultT = TypeVar("ResultT")


class Scheduler:
    """Has the jobs of a store made by one device worker."""

    def __init__(
        self,
        store: JobStore,
        files: JobFiles,
        worker: DeviceWorker,
        config: ServerConfig,
        metrics: ServerMetrics,
        on_failure: Callable[[], None],
    ) -> None:
        self._store, self._files, self._worker = store, files, worker
        self._config, self._metrics, self._on_failure = config, metrics, on_failure
        self._keep_s = config.keep_hours * 3600
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._ready, self._was_tried = threading.Event(), threading.Event()
        self._current: str | None = None
        self._durations: list[float] = []
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._work, self._sweep_often)]
        self.failure: UnusableModelError | None = None
        """Why the model could not be loaded at all."""

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready.is_set()

    @property
    def mean_job_s(self) -> float:
        """Returns how long the last clips took on average."""
        return sum(self._durations) / len(self._durations) if self._durations else 5.0

    def wait_for_model(self) -> None:
        """Waits until the model has been loaded for the first time. Raises UnusableModelError where it cannot be."""
        self._was_tried.wait()
        if self.failure is not None:
            raise self.failure

    def start(self) -> None:
        """Takes up what a server that was killed has left, and starts to work."""
        freed = self._store.recover(self._config.replica, self._keep_s)
        if freed:
            logger.info("%d clips were being made when the server ended", freed)
        self._files.remove_orphans(self._store.ids())
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops at once; the job that runs is queued again."""
        self._stopping.set()
        self._wake.set()
        self._was_tried.set()
        self._worker.close()
        for thread in self._threads:
            thread.join()
        # One that was being started meanwhile.
        self._worker.close()

    def notice(self) -> None:
        """Looks for jobs now, since one was queued."""
        self._wake.set()

    def delete(self, job_id: str, owner: str) -> bool:
        """Deletes a job with its files and waits until one that runs has stopped; False where there is none."""
        status = self._store.delete(job_id, owner)
        if status is None:
            return False
        if status is Status.IN_PROGRESS:
            if self._current == job_id:
                self._worker.stop(job_id)
            # Other replicas notice at their next look.
            deadline = time.monotonic() + _DELETE_WAIT_S
            while self._store.exists(job_id) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
        else:
            self._files.remove(job_id)
        return True

    def _work(self) -> None:
        try:
            self._run_jobs()
        except OperationalError:
            logger.warning("the database did not answer when the server was stopped")

    def _run_jobs(self) -> None:
        while not self._stopping.is_set():
            if not self._start_worker():
                return
            job = self._insist(lambda: self._store.claim(self._config.replica))
            if job is None:
                self._wake.wait(_IDLE_S)
                self._wake.clear()
                continue
            self._current = job.id
            try:
                self._run(job)
            finally:
                self._current = None

    def _start_worker(self) -> bool:
        """Returns whether the process of the device runs; False where the server has to stop."""
        while not self._stopping.is_set():
            try:
                self._worker.start()
            except UnusableModelError as error:
                self.failure = error
                self._was_tried.set()
                self._on_failure()
                return False
            except DeviceProcessEndedError as error:
                logger.warning("the process of the device ended while it loaded the model (%s)", error)
                self._ready.clear()
                self._stopping.wait(_RESTART_S)
                continue
            self._ready.set()
            self._was_tried.set()
            return True
        return False

    def _run(self, job: JobRecord) -> None:
        started, noted = time.monotonic(), 0.0

        def on_tick(percent: int, phase: str) -> None:
            nonlocal noted
            now = time.monotonic()
            if now - started > self._config.job_minutes * 60:
                self._worker.close()
            if now - noted >= _RENEW_S:
                noted = now
                try:
                    is_wanted = self._store.renew(job, percent, phase)
                except OperationalError:
                    # If it lasts, the lease ends, and a later tick will be told so.
                    logger.warning("the database did not answer while a clip was made")
                    return
                if not is_wanted:
                    self._worker.stop(job.id)

        try:
            result = self._worker.run(job.id, job.request, self._files.fetch(job.id), on_tick)
            self._files.publish_clip(job.id)
            is_kept = self._insist(lambda: self._store.finish(job, result, self._keep_s))
            self._note_duration(time.monotonic() - started, result["stage_durations"])
        except JobStoppedError:
            is_kept = False
        except JobFailedError as error:
            status, sentence = error.status, error.sentence
            is_kept = self._insist(lambda: self._store.fail(job, status, sentence, self._keep_s))
        except DataError as error:
            logger.warning("%s", error)
            is_kept = self._insist(lambda: self._store.fail(job, 503, _NO_STORE, self._keep_s))
        except DeviceProcessEndedError as error:
            end, seconds = str(error), time.monotonic() - started
            is_kept = self._insist(lambda: self._begin_anew(job, end, seconds))
        try:
            self._insist(lambda: self._clean_up(job, is_kept))
        except DataError as error:
            # What stays goes when its job expires, or with the folders of no job.
            logger.warning("%s", error)
        self._files.release(job.id)

    def _insist(self, act: Callable[[], ResultT]) -> ResultT:
        """Returns what `act` returns; it is done again while the database does not answer.

        Raises sqlalchemy's OperationalError where the server is stopped meanwhile.
        """
        while True:
            try:
                return act()
            except OperationalError:
                if self._stopping.wait(_RETRY_S):
                    raise
                logger.warning("the database does not answer")

    def _begin_anew(self, job: JobRecord, end: str, seconds: float) -> bool:
        """Queues a job again whose process has died; returns whether it is still wanted."""
        self._ready.clear()
        if self._stopping.is_set():
            return self._store.requeue(job, None, counts=False)
        if seconds > self._config.job_minutes * 60:
            limit = f"the clip took more than {self._config.job_minutes:g} minutes and was given up"
            return self._store.fail(job, 504, f"{limit}; ask for a shorter one or fewer steps", self._keep_s)
        logger.warning("the process of the device ended in the middle of a clip (%s)", end)
        self._metrics.worker_restarts.inc()
        sentence = f"the process that made this clip ended ({end})"
        if job.attempts >= MAX_ATTEMPTS:
            return self._store.fail(job, 500, f"{sentence}, and so did its second one", self._keep_s)
        return self._store.requeue(job, sentence)

    def _clean_up(self, job: JobRecord, is_kept: bool) -> None:
        """Deletes the files that nobody needs any more."""
        if not is_kept and not self._store.is_wanted(job.id):
            self._files.remove(job.id)
            self._store.remove(job.id)
            self._metrics.jobs.labels("deleted").inc()
            return
        now = self._store.find(job.id)
        if now is not None and now.status in (Status.COMPLETED, Status.FAILED):
            self._files.remove_inputs(job.id)
            self._metrics.jobs.labels(now.status).inc()

    def _note_duration(self, seconds: float, stages: dict[str, float]) -> None:
        self._durations = [*self._durations[1 - _AVERAGE_OF :], seconds]
        self._metrics.job_seconds.observe(seconds)
        for stage, duration in stages.items():
            self._metrics.stage_seconds.labels(stage).inc(duration)

    def sweep(self) -> None:
        """Deletes what has expired and what belongs to no job, and frees jobs that another replica has lost."""
        for job_id in self._store.remove_expired():
            self._files.remove(job_id)
        self._files.remove_orphans(self._store.ids())
        if self._store.recover(None, self._keep_s):
            self._wake.set()

    def _sweep_often(self) -> None:
        while not self._stopping.wait(min(_SWEEP_S, self._config.lease_seconds / 2)):
            try:
                self.sweep()
            except (OperationalError, DataError) as error:
                logger.warning("sweeping did not end (%s)", type(error).__name__)
