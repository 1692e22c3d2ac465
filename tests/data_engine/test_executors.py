"""Executors: the same results everywhere; a worker that dies costs its one job one try."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from uniavgen.data_engine.choose_executor import choose_executor
from uniavgen.data_engine.executors import DefectError, InProcess
from uniavgen.data_engine.processes import ProcessPool
from uniavgen.data_engine.ray_cluster import RayCluster
from uniavgen.errors import ConfigError, DataError


@dataclass
class Task:
    """Squares; some jobs fail, and one kills its process as often as `deaths` says."""

    folder: Path
    deaths: int = 0

    def __call__(self, job: int) -> int:
        if job == 3:
            raise DataError("three cannot be squared")
        if job == 5:
            tries = self.folder / f"try-{time.monotonic_ns()}"
            tries.touch()
            if len(list(self.folder.glob("try-*"))) <= self.deaths:
                os.kill(os.getpid(), signal.SIGKILL)
        return job * job


def divide(job: int) -> float:
    """It has a defect."""
    time.sleep(0.05 * (4 - job))
    return 1 / job


def _outcomes(executor, task, **options):
    return [(row.job, row.result, row.reason) for row in executor.map(task, range(8), **options)]


def test_process_pool_does_what_this_process_does(tmp_path):
    here = _outcomes(InProcess(), Task(tmp_path))
    assert here[2:4] == [(2, 4, ""), (3, None, "three cannot be squared")]
    assert sorted(_outcomes(ProcessPool(2), Task(tmp_path))) == sorted(here)
    assert _outcomes(ProcessPool(2), Task(tmp_path), in_order=True) == here


def test_worker_that_dies_costs_its_job_one_try(tmp_path):
    rows = _outcomes(ProcessPool(2), Task(tmp_path, deaths=1), in_order=True)
    assert rows == _outcomes(InProcess(), Task(tmp_path))
    assert len(list(tmp_path.glob("try-*"))) == 3


def test_job_that_kills_every_worker_is_given_up_and_others_go_on(tmp_path):
    rows = list(ProcessPool(2).map(Task(tmp_path, deaths=9), range(8)))
    (lost,) = (row for row in rows if row.has_died)
    assert (lost.job, lost.reason) == (5, "the process that worked on it died (SIGKILL), in 2 tries")
    assert sorted(row.job for row in rows if row.result is not None) == [0, 1, 2, 4, 6, 7]
    assert len(list(tmp_path.glob("try-*"))) == 2


def test_defect_is_raised_when_everything_else_is_done():
    for executor in (InProcess(), ProcessPool(2)):
        rows = executor.map(divide, range(4), in_order=True)
        assert [next(rows).result for _ in range(4)] == [None, 1, 1 / 2, 1 / 3]
        with pytest.raises(DefectError, match="ZeroDivisionError: division by zero"):
            next(rows)


def test_workers_end_with_a_killed_parent(tmp_path):
    code = (
        "import sys, time\n"
        "from tests.data_engine.test_executors import sleep_long\n"
        "from uniavgen.data_engine.processes import ProcessPool\n"
        "if __name__ == '__main__':\n"
        "    list(ProcessPool(1).map(sleep_long, [sys.argv[1]]))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    paths = os.pathsep.join((str(Path(__file__).parents[2]), *sys.path))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "pid")], env={**os.environ, "PYTHONPATH": paths}
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not _is_running(worker):
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def sleep_long(path: str) -> None:
    """Says who it is."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("address", ["localhost:1", "nowhere.invalid:6379"])
def test_ray_cluster_that_is_not_there_is_one_sentence(address):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=f"there is no Ray cluster at '{address}'"):
        list(RayCluster(address).map(divide, [1]))


def test_gpu_of_a_cluster_is_not_chosen_by_number():
    with pytest.raises(ConfigError, match="each worker has a GPU of its own, got cuda:1"):
        choose_executor(None, "local", "cuda:1")


@pytest.mark.slow
def test_ray_does_what_this_process_does(tmp_path):
    ray = pytest.importorskip("ray")
    try:
        executor = RayCluster("local", num_workers=2)
        assert _outcomes(executor, Task(tmp_path), in_order=True) == _outcomes(InProcess(), Task(tmp_path))
        rows = list(executor.map(Task(tmp_path, deaths=9), range(8)))
        (lost,) = (row for row in rows if row.has_died)
        assert lost.job == 5
        num_gpus = int(ray.cluster_resources().get("GPU", 0))
        with pytest.raises(ConfigError, match="has no GPU") if not num_gpus else nullcontext():
            assert RayCluster("local", num_workers=99, gpus_per_worker=1.0).width == num_gpus
    finally:
        ray.shutdown()
