"""What a clip takes of a GPU's memory, predicted from the configs of a model alone."""

from dataclasses import dataclass
from pathlib import Path

import torch

from uniavgen.artifacts import path_exists
from uniavgen.checkpoint.saved_model import check_files
from uniavgen.distributed import select_device
from uniavgen.errors import ConfigError
from uniavgen.inference.memory import GIB, MemoryPlan, MemoryPlanner
from uniavgen.inference.meta_model import WORKING_DTYPE, base_meta_model, saved_meta_model
from uniavgen.inference.offload import offload_mode
from uniavgen.tasks.table import Task
from uniavgen.workflows.fit import free_gpu_bytes, free_host_bytes
from uniavgen.workflows.load import largest_task_workload
from uniavgen.workflows.load_config import LoadConfig
from uniavgen.workflows.model_files import find_model

BASE = "base"
"""The paper's model, whose sizes are known without its weights."""


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """The memory of one clip, with what it was planned for."""

    memory: MemoryPlan
    width: int
    height: int
    on_gpu: bool
    budget: int | None
    """Bytes that may be used; None is any number."""
    free_host_bytes: int
    """Bytes of this computer's memory that are free."""


def plan_clip(load: LoadConfig, task: Task, num_frames: int, size: tuple[int, int] | None = None) -> ClipPlan:
    """Plans a clip without downloading or loading weights; `load.model` may be BASE.

    Without `load.vram` the budget is the free memory of the GPU of this computer; on a CPU everything stays in memory.
    Raises ConfigError for a clip that does not fit, and CheckpointError for a model that does not exist.
    """
    if load.mode is not None:
        offload_mode(load.mode)
    folder = _config_folder(load.model)
    budget, on_gpu = _budget(load)
    dtype = WORKING_DTYPE if on_gpu else None
    meta = base_meta_model(dtype) if folder is None else saved_meta_model(folder, dtype)
    workload = largest_task_workload(meta, task, num_frames, size, {})
    planner = MemoryPlanner(meta, workload)
    free = free_host_bytes()
    # A GPU that is given by its memory may be in another computer, whose own memory nobody knows.
    host = free if load.vram is None else None
    memory = planner.resident() if budget is None else planner.choose(budget, mode=load.mode, host=host)
    return ClipPlan(
        memory=memory,
        width=workload.width,
        height=workload.height,
        on_gpu=on_gpu,
        budget=budget,
        free_host_bytes=free,
    )


def _config_folder(model: str) -> Path | None:
    """Returns the folder of the configs; None for the paper's model without weights."""
    if model == BASE and not path_exists(Path(BASE)):
        return None
    folder = find_model(model)
    if folder is None:
        raise ConfigError(f"the configs of '{model}' are not on this disk; download it first, or plan for {BASE}")
    check_files(folder)
    return folder


def _budget(load: LoadConfig) -> tuple[int | None, bool]:
    """Returns the bytes that may be used, None for any number, and whether they are a GPU's."""
    if load.vram is not None:
        if load.device in ("cpu", "mps"):
            raise ConfigError(
                f"--vram is for a CUDA GPU, and --device is {load.device}, where everything stays; leave one out"
            )
        return int(load.vram * GIB), True
    device = select_device(load.device)
    if device.startswith("cuda"):
        return free_gpu_bytes(torch.device(device)), True
    if load.mode is not None:
        raise ConfigError("--mode is for a CUDA GPU; say how much memory it has with --vram, such as --vram 24")
    return None, False
