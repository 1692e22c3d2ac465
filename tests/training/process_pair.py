"""Two processes that know of each other, forked from one that has imported everything, so that they start at once."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from uniavgen.distributed import ParallelContext

# Effective because no test starts the server of forks before all test modules are imported.
multiprocessing.set_forkserver_preload(["torch.distributed.checkpoint", "uniavgen.training.stage"])


def run_in_two_processes(function: Callable[..., Any], *arguments: object) -> list[Any]:
    """Calls `function(context, *arguments)`, of the top of a module, in both; returns their results in order of rank."""
    with TemporaryDirectory() as folder:
        mp.start_processes(_run, (function, arguments, folder), nprocs=2, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _run(rank: int, function: Callable[..., Any], arguments: tuple[object, ...], folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(function(ParallelContext.for_training(), *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
