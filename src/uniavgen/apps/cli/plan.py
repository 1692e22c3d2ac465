"""`uniavgen plan`: what a clip takes of a GPU's memory, before anything is downloaded or loaded."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uniavgen.apps.cli import options as o
from uniavgen.errors import ConfigError
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.load_config import LoadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uniavgen.inference.memory import MemoryPlan
    from uniavgen.tasks.table import Task

CONFIGS = {LoadConfig: ("model", "attention", "compile", "cache", "lora")}


def plan(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="'nano', a folder, or 'base': the paper's model, which need not be here."),
    ] = "base",
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels, such as 1280x736; the model's own if left out.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="NAME", help="joint, reference_audio, continuation, dubbing or animation.")
    ] = "joint",
    num_frames: Annotated[int, typer.Option(metavar="N", help="Length of the clip in frames, 1 + 4n.")] = NUM_FRAMES,
    train: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Preset or YAML file of a training run to plan instead.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", "-s", help="key.path=value, over --train.")] = None,
    gpus: Annotated[int, typer.Option(metavar="N", min=1, help="GPUs of the training run.")] = 1,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of 989 TFLOP/s (H100) that training is taken to reach.")
    ] = 0.4,
    as_json: o.Json = False,
) -> None:
    """Show what a clip takes of a GPU's memory, phase by phase, and the mode that fits; or what a training run takes.

    Only configs are read. With --vram the GPU need not be here; without, it is the free memory of the one that is, and
    on a CPU everything stays in memory. With --train: memory by kind, clips a second, days, bytes of a checkpoint.
    """
    if train:
        _plan_training(context, train, settings or (), gpus, utilisation, size, as_json)
        return
    load, pixels = o.load_config(context, model=model), o.parse_size(size)

    from uniavgen.inference.memory import GIB
    from uniavgen.workflows.plan import plan_clip

    clip = plan_clip(load, _task(task), num_frames, pixels)
    memory, budget = clip.memory, clip.budget
    if as_json:
        request = {"model": model, "task": task, "size": f"{clip.width}x{clip.height}", "num_frames": num_frames}
        print(json.dumps({**request, "vram_gb": budget and round(budget / GIB, 2), **_as_data(memory)}, indent=2))
        return
    device = "a GPU" if clip.on_gpu else "a CPU, in float32"
    print(f"{model}, {task}, {clip.width}x{clip.height} px, {num_frames} frames, {device}")
    print(_mode_line(memory))
    for line in _phase_table(memory):
        print(line)
    peak = f"{memory.peak.peak / GIB:.1f} GB"
    if budget is not None:
        peak = f"{memory.peak.required / GIB:.1f} of {budget / GIB:.1f} GB, CUDA's own share included"
    print(f"at most {peak} (to {memory.peak.phase}); predicted, not measured")
    if memory.host_bytes:
        free = clip.free_host_bytes
        verdict = "" if memory.host_bytes <= free else ": too little"
        print(
            f"{memory.host_bytes / GIB:.1f} GB of weights wait in the computer's memory; {free / GIB:.1f} GB are free "
            f"here{verdict}"
        )


def _plan_training(
    context: typer.Context,
    train: list[str],
    settings: "Sequence[str]",
    gpus: int,
    utilisation: float,
    size: str | None,
    as_json: bool,
) -> None:
    from uniavgen.config import load
    from uniavgen.training.config import TrainConfig
    from uniavgen.workflows.plan_training import GIB, Machine, plan_training, planned_buckets

    vram, pixels = o.load_config(context, model="base").vram, o.parse_size(size)
    machine = Machine(gpus=gpus, memory=None if vram is None else int(vram * GIB), utilisation=utilisation)
    config = load(TrainConfig, train, settings)
    plan = plan_training(config, planned_buckets(config, [pixels] if pixels else ()), machine)
    if as_json:
        print(json.dumps({"train": train, "settings": [*settings], **plan.as_data()}, indent=2))
    else:
        print("\n".join([f"{' + '.join(train)}: {plan.describe()}", *plan.table()]))


def _task(name: str) -> "Task":
    from uniavgen.tasks.table import Task

    if name not in [*Task]:
        raise ConfigError(f"there is no task '{name}'; use one of {', '.join(Task)}")
    return Task(name)


def _mode_line(plan: "MemoryPlan") -> str:
    offload = plan.offload
    choices = [offload.mode.summary, "both guidance passes in one batch" if offload.batch_passes else "pass by pass"]
    for step, tile_px in (("encoded", offload.encode_tile_px), ("decoded", offload.decode_tile_px)):
        if tile_px is not None:
            choices.append(f"video {step} in tiles of {tile_px} px")
    return f"mode {offload.mode.name}: {'; '.join(choices)}"


def _phase_table(plan: "MemoryPlan") -> list[str]:
    """Returns the lines of a table of the phases in GB."""
    from uniavgen.inference.memory import GIB

    rows = [("phase", "on the device", "weights", "activations", "peak GB")]
    for phase in plan.phases:
        resident = ", ".join(name.replace("_", " ") for name in phase.resident) or "nothing"
        sizes = (phase.weights, phase.activations, phase.peak)
        rows.append((str(phase.phase), resident, *(f"{size / GIB:.2f}" for size in sizes)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row, widths, "<<>>>", strict=True)
        lines.append("  " + "  ".join(f"{cell:{side}{width}}" for cell, width, side in cells).rstrip())
    return lines


def _as_data(plan: "MemoryPlan") -> dict[str, Any]:
    """Returns the plan as JSON data, under the keys that earlier versions print."""
    offload = plan.offload
    return {
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
            for phase in plan.phases
        ],
        "peak": max(phase.peak for phase in plan.phases),
        "needed": round(plan.peak.required),
        "waiting": plan.host_bytes,
    }
