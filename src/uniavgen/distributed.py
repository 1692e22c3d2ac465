"""Devices by name, and the processes of a run, for every part of the library."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from uniavgen.errors import ConfigError, TrainingError, UniAVGenError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup, Store
    from torch.distributed.device_mesh import DeviceMesh

CFG_DIM, RING_DIM, ULYSSES_DIM = "cfg", "ring", "ulysses"
"""Dimensions of the mesh that samples one clip; the names of the last two are diffusers'."""
_DEVICE_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device_name(name: str) -> None:
    """Raises ConfigError for a name that no device can have; does not look whether the device exists."""
    if not _DEVICE_NAME.fullmatch(name):
        raise ConfigError(f"there is no device '{name}'; use auto, cpu, cuda, cuda:N or mps")


def select_device(name: str) -> str:
    """Returns an existing device for `auto`, cpu, cuda, cuda:N or mps; raises ConfigError where there is none."""
    # Deferred, so that a name can be checked without loading torch.
    import torch

    check_device_name(name)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"there is no device '{name}' here: no CUDA GPU was found; use --device cpu")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise ConfigError(f"there is no device '{name}' here; the last is cuda:{torch.cuda.device_count() - 1}")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no device 'mps' here; use --device cpu")
    return name


@dataclass(frozen=True, kw_only=True)
class ParallelContext:
    """The processes of a run: the rank of this one, their number, and the mesh in which they share one clip.

    Training shares a batch: each process takes its `share` of the samples. Sampling shares one clip: the guidance
    passes of a step along `CFG_DIM`, the video tokens of a pass along `ULYSSES_DIM`.
    """

    rank: int = 0
    world_size: int = 1
    mesh: "DeviceMesh | None" = None
    """`CFG_DIM` x `RING_DIM` x `ULYSSES_DIM`; None where no clip is shared."""

    @classmethod
    def for_sampling(cls, device_type: str, cfg_size: int | None = None) -> "ParallelContext":
        """Arranges all processes of the default group in a mesh of `cfg_size` x 1 x the rest.

        cfg_size: groups that share the passes of a step; None is 2 for an even number of processes, otherwise 1.
        """
        import torch.distributed as dist
        from torch.distributed.device_mesh import init_device_mesh

        world_size = dist.get_world_size()
        cfg_size = cfg_size or (2 if world_size % 2 == 0 else 1)
        shape = (cfg_size, 1, world_size // cfg_size)
        mesh = init_device_mesh(device_type, shape, mesh_dim_names=(CFG_DIM, RING_DIM, ULYSSES_DIM))
        return cls(rank=dist.get_rank(), world_size=world_size, mesh=mesh)

    @classmethod
    def for_training(cls) -> "ParallelContext":
        """Returns the place of this process in the default group; `SINGLE_PROCESS` where there is none."""
        import torch.distributed as dist

        return cls(rank=dist.get_rank(), world_size=dist.get_world_size()) if dist.is_initialized() else SINGLE_PROCESS

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sub_mesh(self, dimension: str) -> "DeviceMesh | None":
        """Returns the mesh along one dimension, or None where only one process stands along it."""
        if self.mesh is None or self.mesh[dimension].size() == 1:
            return None
        return self.mesh[dimension]

    def share(self, samples: range) -> range:
        """Returns this process's share of the global sample numbers of a step.

        All processes together take each once. Raises ConfigError for a batch that cannot be shared evenly.
        """
        if len(samples) % self.world_size:
            raise ConfigError(
                f"a batch of {len(samples)} clips (train.batch_size, or train.batch_multiple of a budget of tokens) "
                f"cannot be shared evenly by {self.world_size} processes; set a multiple, or start another number"
            )
        local_size = len(samples) // self.world_size
        return samples[self.rank * local_size :][:local_size]


SINGLE_PROCESS = ParallelContext()
"""The context of a run that consists of this process alone."""


@contextmanager
def process_group(device: str = "auto", timeout_s: float = 600.0) -> Iterator[str | None]:
    """Joins the processes that torchrun started, while the context is open, and yields the device of this process.

    Yields None where this process runs alone. Tensors on the CPU are exchanged by gloo, those on GPUs by NCCL. Raises
    ConfigError where a process has no GPU of its own, TrainingError where another process is gone.

    device: `auto`, `cpu` or `cuda`. timeout_s: how long one process waits for the others before the run ends.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield None
        return
    import torch
    import torch.distributed as dist

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device '{device}' was given to each of {world_size} processes; use auto, cpu or cuda")
    has_gpu = select_device(device) == "cuda"
    local_rank = int(os.environ["LOCAL_RANK"])
    if has_gpu and local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"{world_size} processes need a GPU each, here are {torch.cuda.device_count()}; start fewer processes"
        )
    if has_gpu:
        torch.cuda.set_device(local_rank)
    # Small values that the host needs, and checkpoints in the background, go through gloo without touching a GPU.
    backend, timeout = "cpu:gloo,cuda:nccl" if has_gpu else "gloo", timedelta(seconds=timeout_s)
    store, rank, _ = next(dist.rendezvous("env://", timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = dist.PrefixStore(_agreed_name(store, rank, world_size, timeout_s), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    try:
        yield f"cuda:{local_rank}" if has_gpu else "cpu"
    except BaseException as error:
        # Asked before the connections are closed, on which the others fail in turn.
        if is_first_failure() and _is_lost_connection(error):
            raise TrainingError(
                f"another of the {world_size} processes has ended or did not answer for {timeout_s:g} s; start the "
                "run again with --resume, or give it more time"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _agreed_name(store: "Store", rank: int, world_size: int, timeout_s: float) -> str:
    """Returns a name that only the present processes know, which all of them must ask for.

    torchrun keeps one store when it starts processes again. What killed ones have left in it, such as their addresses,
    would be taken for that of the present ones; its count of restarts differs between machines.
    """
    name, deadline = secrets.token_hex(8), time.monotonic() + timeout_s
    if rank > 0:
        store.set(f"uniavgen/hello/{rank}", name)
        answer = store.get(f"uniavgen/welcome/{name}").decode()
        store.set(f"uniavgen/here/{answer}/{rank}", "")
        return answer
    missing = set(range(1, world_size))
    while missing:
        for other in sorted(missing):
            if store.check([f"uniavgen/here/{name}/{other}"]):
                missing.discard(other)
            elif store.check([f"uniavgen/hello/{other}"]):
                # Perhaps the name of a killed process; the present one writes over it.
                store.set(f"uniavgen/welcome/{store.get(f'uniavgen/hello/{other}').decode()}", name)
        if time.monotonic() > deadline:
            raise TrainingError(
                f"{len(missing)} of the {world_size} processes did not start within {timeout_s:g} s; look why, or give "
                "them more time"
            )
        time.sleep(0.01)
    return name


def broadcast_object(value: Any, context: ParallelContext) -> Any:
    """Returns the first process's `value` in all processes, which all call it. It goes through pickle."""
    if context.world_size == 1:
        return value
    import torch
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, device=torch.device("cpu"))
    return held[0]


def _is_lost_connection(error: BaseException) -> bool:
    import torch.distributed as dist

    # gloo has no class of error of its own.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


@cache
def is_first_failure() -> bool:
    """Returns whether this process is the first of its run to fail: it tells the reason, the others only end.

    True where it runs alone, or was not started by torchrun.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("WORLD_SIZE") == "1":
        return True
    import torch.distributed as dist

    store, rank, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=30)))
    name = f"uniavgen/first_failure/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
    return store.compare_set(name, "", str(rank)) == str(rank).encode()


def is_restarted() -> bool:
    """Returns whether torchrun has started this process again, after one of the run was killed or failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def raise_first_error(error: UniAVGenError | None, group: "ProcessGroup | None") -> None:
    """Raises the error of the lowest rank that has one, on all processes of a group, so that none waits for another.

    group: with a CPU backend; None for this process alone.
    """
    errors: list[UniAVGenError | None] = [error]
    if group is not None:
        import torch.distributed as dist

        errors = [None] * dist.get_world_size(group)
        dist.all_gather_object(errors, error, group=group)
    for found in errors:
        if found is not None:
            raise found


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is true on any process of the run. All of them must call it."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    # On the CPU, so that no GPU is waited for.
    flags = torch.tensor([flag], dtype=torch.uint8)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)
