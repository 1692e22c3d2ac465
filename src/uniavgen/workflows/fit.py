"""Fitting a clip into the memory of a GPU and of the computer: budgets, and the offloading that stays within them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from uniavgen.errors import ConfigError
from uniavgen.inference.memory import GIB, RESERVE


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


@contextmanager
def out_of_memory_as_error() -> Iterator[None]:
    """Raises ConfigError where a GPU runs out of memory although the plan fitted."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "the GPU ran out of memory; allow less with --vram, so that more is moved away, or use --mode streamed-fp8"
        ) from error
