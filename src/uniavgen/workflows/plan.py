"""What a clip takes of a GPU's memory, predicted from the configs of a model alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    num_frames: int

    def describe(self) -> str:
        """Returns one line: what the clip is, and where it is made."""
        device = "a GPU" if self.on_gpu else "a CPU, in float32"
        return f"{self.width}x{self.height} px, {self.num_frames} frames, {device}"

    def table(self) -> list[str]:
        """Returns lines: the mode, the phases in GB, and what is needed at most."""
        peak = f"{self.memory.peak.peak / GIB:.1f} GB"
        if self.budget is not None:
            required = self.memory.peak.required / GIB
            peak = f"{required:.1f} of {self.budget / GIB:.1f} GB, CUDA's own share included"
        lines = [
            self._mode_line(),
            *self._phase_table(),
            f"at most {peak} (to {self.memory.peak.phase}); predicted, not measured",
        ]
        waiting = self.memory.host_bytes
        if waiting:
            verdict = "" if waiting <= self.free_host_bytes else ": too little"
            lines.append(
                f"{waiting / GIB:.1f} GB of weights wait in the computer's memory; {self.free_host_bytes / GIB:.1f} GB "
                f"are free here{verdict}"
            )
        return lines

    def as_data(self) -> dict[str, Any]:
        """Returns JSON data, under the keys that earlier versions print."""
        memory, offload = self.memory, self.memory.offload
        return {
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            "vram_gb": self.budget and round(self.budget / GIB, 2),
            "mode": offload.mode.name,
            "batch_passes": offload.batch_passes,
            "keep_text": offload.cache_text_kv,
            "encode_tile_px": offload.encode_tile_px,
            "decode_tile_px": offload.decode_tile_px,
            "phases": [
                {
                    "phase": str(phase.phase),
                    "resident": phase.resident,
                    "activations": phase.activations,
                    "peak": phase.peak,
                }
                for phase in memory.phases
            ],
            "peak": max(phase.peak for phase in memory.phases),
            "needed": round(memory.peak.required),
            "waiting": memory.host_bytes,
        }

    def _mode_line(self) -> str:
        offload = self.memory.offload
        passes = "both guidance passes in one batch" if offload.batch_passes else "pass by pass"
        choices = [offload.mode.summary, passes]
        for step, tile_px in (("encoded", offload.encode_tile_px), ("decoded", offload.decode_tile_px)):
            if tile_px is not None:
                choices.append(f"video {step} in tiles of {tile_px} px")
        return f"mode {offload.mode.name}: {'; '.join(choices)}"

    def _phase_table(self) -> Iterator[str]:
        rows: list[tuple[str, ...]] = [("phase", "on the device", "weights", "activations", "peak GB")]
        for phase in self.memory.phases:
            resident = ", ".join(name.replace("_", " ") for name in phase.resident) or "nothing"
            sizes = (phase.weights, phase.activations, phase.peak)
            rows.append((str(phase.phase), resident, *(f"{size / GIB:.2f}" for size in sizes)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = zip(row, widths, "<<>>>", strict=True)
            yield "  " + "  ".join(f"{cell:{side}{width}}" for cell, width, side in cells).rstrip()


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
        num_frames=num_frames,
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
