"""Times, memory and the peak of the machine, measured in one way everywhere."""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of one run: the median of all, and the shortest and longest."""

    median_s: float
    least_s: float
    most_s: float
    repeats: int

    def rounded(self) -> dict[str, float]:
        return {name: value if name == "repeats" else float(f"{value:.5g}") for name, value in asdict(self).items()}


def timed(run: Callable[[], Any], device: torch.device, repeats: int, warm_up: int = 1) -> Timed:
    """Times `repeats` runs of a function, after `warm_up` runs that do not count."""
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return Timed(median_s=statistics.median(seconds), least_s=min(seconds), most_s=max(seconds), repeats=repeats)


def forget_peak(device: torch.device) -> None:
    """Resets the peak memory of a GPU; that of a CPU counts from the start of the process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Returns the peak bytes of tensors on a GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 for a GPU, float32 for a CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
