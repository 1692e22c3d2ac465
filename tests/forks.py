"""Processes forked from a server that has imported everything: they start at once, without the tests' shape checks."""

import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from uniavgen.apps.cli import main
from uniavgen.distributed import ParallelContext

CONTEXT = multiprocessing.get_context("forkserver")
# The server starts with the first process, after all tests are collected.
CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",
        "torch.distributed.elastic.multiprocessing",
        "torch.distributed.launcher.api",
        "torch.utils.tensorboard",
        "uniavgen.apps.cli.convert",
        "uniavgen.apps.cli.train",
        "uniavgen.checkpoint.published",
        "uniavgen.training.stage",
        "uniavgen.workflows.train",
    ]
)


def run(function: Callable[..., Any], *arguments: object) -> CompletedProcess[str]:
    """Calls a function of the top of a module in a process; what it and its children print comes back as `stdout`."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = CONTEXT.Process(target=_printing_to, args=(output, function, *arguments))
        process.start()
        process.join()
        return CompletedProcess(function.__name__, process.exitcode or 0, output.read_text())


def command(*words: str) -> None:
    """Runs `uniavgen WORDS` as the shell does, which ends the process."""
    # Without arguments `main` is the shell command, with its signals.
    sys.argv = ["uniavgen", *words]
    sys.exit(main())


def torchrun(
    logs: Path, function: Callable[..., Any], *arguments: object, max_restarts: int = 0
) -> CompletedProcess[str]:
    """Calls a function in two processes that know of each other, with the launcher of `torchrun`."""
    return run(_launch, logs, max_restarts, function, *arguments)


def in_two_processes(function: Callable[..., Any], *arguments: object) -> list[Any]:
    """Calls `function(context, *arguments)` in two processes and returns the results in order of rank."""
    with TemporaryDirectory() as folder:
        mp.start_processes(_in_group, (folder, function, *arguments), nprocs=2, start_method="forkserver")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(2)]


def _printing_to(output: Path, function: Callable[..., Any], *arguments: object) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    _start_as_python_does()
    function(*arguments)


def _start_as_python_does() -> None:
    """Makes processes that this one starts be forked from it; by default they would come from a server of their own."""
    multiprocessing.set_start_method("fork", force=True)


def _launch(logs: Path, max_restarts: int, function: Callable[..., Any], *arguments: object) -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        max_restarts=max_restarts,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=str(uuid.uuid4()),
        start_method="fork",
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
    )
    elastic_launch(config, _launched)(function, arguments)


def _launched(function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    # The launcher's own handler has been forked too.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        function(*arguments)
    except SystemExit as end:
        # The launcher waits for the result of a process that has succeeded.
        if end.code:
            raise


def _in_group(rank: int, folder: str, function: Callable[..., Any], *arguments: object) -> None:
    _start_as_python_does()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(function(ParallelContext.for_training(), *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
