"""Workers that are actors on a Ray cluster. Sources and the work folder lie where every machine of it reads them."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from uniavgen.artifacts import first_line
from uniavgen.data_engine.executors import Attempt, Worker, WorkerDiedError, WorkerPool, attempt
from uniavgen.errors import ConfigError

CPUS_PER_WORKER: Final = 0.5
"""A fraction, so that other work of the cluster also starts. [ours]"""
_LOCAL: Final = "local"
_CONNECT_S: Final = 10


@dataclass(frozen=True)
class RayCluster(WorkerPool):
    """Does jobs in actors of a cluster."""

    address: str = "auto"
    """auto: the cluster that this machine is part of; local: one that is started here and ends with this process."""
    num_workers: int | None = None
    """One for each CPU of the cluster where it is None."""
    gpus_per_worker: float = 0.0

    @cached_property
    def _ray(self) -> Any:
        return connect_ray(self.address)

    @cached_property
    def width(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the number of actors. Raises ConfigError where each takes a GPU and the cluster has none."""
        resources = self._ray.cluster_resources()
        width = self.num_workers or max(int(resources.get("CPU", 1)), 1)
        if not self.gpus_per_worker:
            return width
        # More than fit would wait for those that are idle.
        fitting = int(resources.get("GPU", 0) / self.gpus_per_worker)
        if not fitting:
            raise ConfigError(f"the Ray cluster at '{self.address}' has no GPU; pass --device cpu, or add a machine")
        return min(width, fitting)

    def start(self, task: Callable[[Any], Any]) -> "RayWorker":
        """Starts an actor."""
        # Ray would give each actor other threads than this process has, and sums of floats another order.
        threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        options = {
            "num_cpus": CPUS_PER_WORKER,
            "num_gpus": self.gpus_per_worker,
            "max_restarts": 0,
            "runtime_env": {"env_vars": threads},
        }
        return RayWorker(self._ray, self._ray.remote(**options)(RayActor).remote(task))

    def wait(self, busy: Sequence[Worker]) -> Sequence[Worker]:
        """Returns actors that have answered or ended."""
        by_answer = {worker.answer: worker for worker in busy if isinstance(worker, RayWorker)}
        return [by_answer[answer] for answer in self._ray.wait(list(by_answer), num_returns=1)[0]]


class RayActor:
    """What runs on the cluster."""

    def __init__(self, task: Callable[[Any], Any]) -> None:
        self._task = task

    def attempt(self, job: Any) -> Attempt:
        """Does a job."""
        return attempt(self._task, job)


class RayWorker:
    """An actor and the answer that it owes."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.answer: Any = None

    def submit(self, job: Any) -> None:
        """Sends a job."""
        self.answer = self._actor.attempt.remote(job)

    def receive(self) -> Attempt:
        """Returns the answer. Raises WorkerDiedError."""
        try:
            return self._ray.get(self.answer)
        except self._ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise ConfigError(
                    f"a worker could not start on the Ray cluster ({_last_line(error)}); install the same uniavgen on "
                    "each of its machines"
                ) from error
            raise WorkerDiedError(f"the process that worked on it died ({first_line(error)})") from error

    def close(self) -> None:
        """Kills the actor: what it writes is whole or not there."""
        self._ray.kill(self._actor)


def connect_ray(address: str) -> Any:
    """Returns the package, connected to the cluster auto, local or HOST:PORT.

    Raises ConfigError where it is not installed or there is no cluster.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("a Ray cluster needs the package ray: pip install 'uniavgen[ray]'") from error
    if ray.is_initialized():
        return ray
    try:
        _check_reachable(address)
        ray.init(address=address, logging_level=logging.WARNING, **(_local_options() if address == _LOCAL else {}))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"there is no Ray cluster at '{address}' ({first_line(error)}); start one with `ray start --head`, or "
            "pass --ray local"
        ) from error
    return ray


def _local_options() -> dict[str, Any]:
    return {
        "include_dashboard": False,
        # Workers on this machine import what this process imports.
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    }


def _check_reachable(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT, for which Ray would wait many minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator and port.isdecimal():
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            pass


def _last_line(error: Exception) -> str:
    return str(error).rstrip().splitlines()[-1].strip()
