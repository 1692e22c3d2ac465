"""Fitting a clip into the memory of a GPU and of the computer: budgets, and the offloading that stays within them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from uniavgen.errors import ConfigError
from uniavgen.inference.memory import GIB, RESERVE, MemoryPlan, MemoryPlanner
from uniavgen.inference.offload import OFFLOAD_MODES


def free_host_bytes() -> int:
    """Returns the bytes of the computer's memory that programs can still have."""
    return psutil.virtual_memory().available


def free_gpu_bytes(device: torch.device) -> int:
    """Returns the bytes of a GPU that are free now; the context that this query creates counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    # Every plan holds RESERVE for a context and its libraries; about half of it is the context.
    return free + RESERVE // 2


def gpu_budget(device: torch.device, vram_gb: float | None) -> int:
    """Returns the bytes of a GPU that may be used: those of `vram_gb`, else what is free."""
    return free_gpu_bytes(device) if vram_gb is None else int(vram_gb * GIB)


def limit_gpu_memory(budget: int, device: torch.device) -> None:
    """Lets PyTorch's allocator take no more than `budget` bytes of a GPU."""
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(min(max(budget - RESERVE, 0) / total, 1.0), device)


def check_host_memory(model: str, folder: Path) -> None:
    """Raises ConfigError where a model's weights alone are more than the computer's memory can take now."""
    weights, free = sum(file.stat().st_size for file in folder.rglob("*.safetensors")), free_host_bytes()
    if weights > free:
        raise ConfigError(
            f"the weights of {model} are {weights / GIB:.1f} GB, and {free / GIB:.1f} GB of this computer's memory are "
            "free; close other programs, or use a computer with more memory"
        )


def fit_all(planners: Sequence[MemoryPlanner], budget: int, device: torch.device, mode: str | None) -> MemoryPlan:
    """Returns a plan in which the clips of every planner fit into `budget` bytes of a GPU, each for itself.

    mode: name of an offload mode, None for the first one that fits. Raises ConfigError where a clip does not fit on the
    GPU, or the weights not into the computer's memory.
    """
    host = free_host_bytes()
    plans = [planner.choose(budget, device, mode, host=host) for planner in planners]
    # Modes stand in the order in which they are tried, so the last one of those chosen fits all.
    smallest = max((plan.offload.mode.name for plan in plans), key=list(OFFLOAD_MODES).index)
    if any(plan.offload.mode.name != smallest for plan in plans):
        plans = [planner.choose(budget, device, smallest, host=host) for planner in planners]
    offloads = [plan.offload for plan in plans]
    largest = max(plans, key=lambda plan: plan.peak.required)
    offload = replace(
        largest.offload,
        batch_passes=all(offload.batch_passes for offload in offloads),
        text_kv_fits=all(offload.text_kv_fits for offload in offloads),
        encode_tile_px=_smallest_tile([offload.encode_tile_px for offload in offloads]),
        decode_tile_px=_smallest_tile([offload.decode_tile_px for offload in offloads]),
    )
    return replace(largest, offload=offload)


@contextmanager
def out_of_memory_as_error() -> Iterator[None]:
    """Raises ConfigError where a GPU runs out of memory although the plan fitted."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "the GPU ran out of memory; allow less with --vram, so that more is moved away, or use --mode streamed-fp8"
        ) from error


def _smallest_tile(sides_px: Sequence[int | None]) -> int | None:
    """Returns the smallest side of a tile; None, the whole picture, is the largest of all."""
    return min((side for side in sides_px if side is not None), default=None)
