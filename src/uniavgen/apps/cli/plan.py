"""`uniavgen plan`: what a clip takes of a GPU's memory, before anything is downloaded or loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.cli.making import NUM_FRAMES, size_asked
from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    from uniavgen.inference.memory import MemoryPlan
    from uniavgen.inference.meta_model import MetaModel

BASE = "base"
"""The paper's model, whose sizes are known without its weights."""
LARGEST = (1280, 736)
"""Width and height of the widest picture that the release draws. [release]"""


def plan(
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="'nano', a folder, or 'base': the paper's model, which need not be here."),
    ] = BASE,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels, such as 1280x736; the model's own if left out.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="NAME", help="joint, reference_audio, continuation, dubbing or animation.")
    ] = "joint",
    num_frames: Annotated[int, typer.Option(metavar="N", help="Length of the clip in frames, 1 + 4n.")] = NUM_FRAMES,
    vram: o.Vram = None,
    mode: o.MemoryMode = None,
    device: o.Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a clip takes of a GPU's memory, phase by phase, and the mode that fits.

    Only configs are read. With --vram the GPU need not be here; without, it is the free memory of the one that is, and
    on a CPU everything stays in memory.
    """
    from uniavgen.apps.cli.memory import check_memory, described, free_here

    check_memory(vram, mode)
    asked = size_asked(size)
    folder = _folder(model, device)
    budget, is_gpu = _budget(vram, mode, device)

    from uniavgen.inference.memory import GIB, MemoryPlanner, largest_workload
    from uniavgen.inference.meta_model import WORKING_DTYPE, base_meta_model, saved_meta_model

    dtype = WORKING_DTYPE if is_gpu else None
    parts = base_meta_model(dtype) if folder is None else saved_meta_model(folder, dtype)
    width, height = _pixels(asked, parts)
    timing = parts.transformer.settings.timebase.clip(num_frames)
    work = largest_workload(_task(task), height, width, timing, parts.sampling)
    planner = MemoryPlanner(parts, work)
    # A GPU that is asked about with --vram may be in another computer.
    host = free_here() if vram is None else None
    found = planner.resident() if budget is None else planner.choose(budget, mode=mode, host=host)
    if as_json:
        told = {"model": model, "task": task, "size": f"{width}x{height}", "num_frames": num_frames}
        print(json.dumps({**told, "vram_gb": budget and round(budget / GIB, 2), **_data(found)}, indent=2))
        return
    print(f"{model}, {task}, {width}x{height} px, {num_frames} frames, {'a GPU' if is_gpu else 'a CPU, in float32'}")
    for line in described(found):
        print(line)
    taken = f"{found.peak.peak / GIB:.1f} GB"
    if budget is not None:
        taken = f"{found.peak.required / GIB:.1f} of {budget / GIB:.1f} GB, CUDA's own share included"
    print(f"at most {taken} (to {found.peak.phase}); predicted, not measured")
    if found.host_bytes:
        free = free_here()
        enough = "" if found.host_bytes <= free else ": too little"
        waiting = f"{found.host_bytes / GIB:.1f} GB of weights wait in the computer's memory"
        print(f"{waiting}; {free / GIB:.1f} GB are free here{enough}")


def _folder(model: str, device: str) -> Path | None:
    """None for the paper's model without weights."""
    from uniavgen.apps.cli.models import check_model
    from uniavgen.distributed import check_device_name

    if model == BASE and not Path(BASE).exists():
        check_device_name(device)
        return None
    folder = check_model(model, device)
    if folder is None:
        raise ConfigError(f"the configs of '{model}' are not on this disk; download it first, or plan for {BASE}")
    return folder


def _budget(vram: float | None, mode: str | None, device: str) -> tuple[int | None, bool]:
    """Bytes that may be taken, None for any, and whether it is a GPU's."""
    from uniavgen.inference.memory import GIB

    if vram is not None and device in ("cpu", "mps"):
        raise ConfigError(f"--vram is for a CUDA GPU, and --device is {device}, where everything stays; leave one out")
    if vram is not None:
        return int(vram * GIB), True
    import torch

    from uniavgen.apps.cli.memory import free_bytes
    from uniavgen.distributed import select_device

    chosen = select_device(device)
    if chosen.startswith("cuda"):
        return free_bytes(torch.device(chosen)), True
    if mode is not None:
        raise ConfigError("--mode is for a CUDA GPU; say how much memory it has with --vram, such as --vram 24")
    return None, False


def _pixels(asked: tuple[int, int] | None, parts: "MetaModel") -> tuple[int, int]:
    """Width and height; ConfigError for what the model cannot draw."""
    from uniavgen.inference.resize import ResizeAndCrop, resize_rule_for

    own = parts.resize_rule if asked is None else resize_rule_for(parts.resize_rule, *asked)
    return (own.width, own.height) if isinstance(own, ResizeAndCrop) else LARGEST


def _task(name: str) -> Any:
    from uniavgen.tasks.table import Task

    if name not in [*Task]:
        raise ConfigError(f"there is no task '{name}'; use one of {', '.join(Task)}")
    return Task(name)


def _data(found: "MemoryPlan") -> dict[str, Any]:
    placement = found.offload
    return {
        "mode": placement.mode.name,
        "batch_passes": placement.batch_passes,
        "keep_text": placement.cache_text_kv,
        "encode_tile_px": placement.encode_tile_px,
        "decode_tile_px": placement.decode_tile_px,
        "phases": [
            {"phase": str(m.phase), "resident": m.resident, "activations": m.activations, "peak": m.peak}
            for m in found.phases
        ],
        "peak": max(memory.peak for memory in found.phases),
        "needed": round(found.peak.required),
        "waiting": found.host_bytes,
    }
