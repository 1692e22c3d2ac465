"""Which executor a command uses."""

from uniavgen.data_engine.executors import Executor, InProcess
from uniavgen.data_engine.processes import ProcessPool
from uniavgen.data_engine.ray_cluster import RayCluster
from uniavgen.errors import ConfigError


def choose_executor(jobs: int | None, ray: str | None, device: str = "cpu") -> Executor:
    """Returns where work is done: here, in `jobs` processes, or on the Ray cluster at `ray`.

    Raises ConfigError where there is no job, or one GPU of a cluster is named.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"at least 1 job is done at a time, got {jobs}")
    if ray is not None and ":" in device:
        raise ConfigError(f"on a Ray cluster each worker has a GPU of its own, got {device}; pass --device cuda")
    if ray is not None:
        return RayCluster(ray, num_workers=jobs, gpus_per_worker=0.0 if device == "cpu" else 1.0)
    return InProcess() if jobs in (None, 1) else ProcessPool(jobs)
