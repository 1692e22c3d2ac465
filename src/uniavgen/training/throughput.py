"""How fast a run is: clips and tokens a second, the share of the machine's matrix products, memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil
import torch

from uniavgen.training.loop import StepRecord

GB: Final = 1e9
_PEAK_SIDE: Final = {"cuda": 8192, "cpu": 1024}
"""Rows of the square matrices whose product is the peak; smaller ones do not fill a device."""
_PEAK_REPEATS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The speed of a run since the last look, over all processes."""

    clips_per_s: float
    tokens_per_s: float
    """Video and audio tokens."""
    wait_share: float
    """Of the time, waiting for data."""
    memory_gb: float
    """The most that tensors have taken on this process's GPU; on a CPU, what the process holds."""
    share_of_peak: float | None
    """Executed operations over `matmul_peak` of all devices; None where they were not counted."""

    def scalars(self) -> dict[str, float]:
        """Returns the numbers by the names of their curves."""
        numbers = {
            "speed/clips_per_s": self.clips_per_s,
            "speed/tokens_per_s": self.tokens_per_s,
            "speed/wait_share": self.wait_share,
            "speed/memory_gb": self.memory_gb,
        }
        return numbers if self.share_of_peak is None else numbers | {"speed/share_of_peak": self.share_of_peak}

    def __str__(self) -> str:
        peak = "" if self.share_of_peak is None else f" {self.share_of_peak:.0%} of peak"
        return f"{self.clips_per_s:.3g} clips/s{peak} {self.memory_gb:.1f} GB"


class SpeedMeter:
    """Adds up steps between two looks.

    It never waits for the device: a look gives true times where the losses were read just before, as logging does.
    """

    def __init__(
        self, device: torch.device, peak_flops_per_s: float = 0.0, count: Callable[[StepRecord], float] | None = None
    ) -> None:
        """peak_flops_per_s: of all devices of the run. count: returns the operations of a step over all processes."""
        self._device, self._peak, self._count = device, peak_flops_per_s, count
        self._start()

    def add(self, record: StepRecord) -> None:
        """Adds a step."""
        self._clips += record.data.num_clips
        self._tokens += record.data.num_tokens
        self._wait_s += record.data.wait_s
        if self._count is not None:
            self._flops += self._count(record)

    def read(self) -> Speed:
        """Returns the speed since the last look, and begins anew."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        speed = Speed(
            clips_per_s=self._clips / seconds,
            tokens_per_s=self._tokens / seconds,
            wait_share=min(self._wait_s / seconds, 1.0),
            memory_gb=self._memory_bytes() / GB,
            share_of_peak=self._flops / seconds / self._peak if self._count is not None and self._peak else None,
        )
        self._start()
        return speed

    def _start(self) -> None:
        self._began = time.perf_counter()
        self._clips = self._tokens = 0
        self._wait_s = self._flops = 0.0

    def _memory_bytes(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return psutil.Process().memory_info().rss


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Returns operations a second of one large matrix product on a device, the best of several."""
    side = _PEAK_SIDE.get(device.type, _PEAK_SIDE["cpu"])
    # Random numbers, since a GPU multiplies equal ones faster. The generator is of its own: training draws from others.
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
    shortest = float("inf")
    for _ in range(_PEAK_REPEATS):
        began = time.perf_counter()
        # Reading one value waits for the device.
        (first @ second)[0, 0].item()
        shortest = min(shortest, time.perf_counter() - began)
    return 2 * side**3 / shortest
