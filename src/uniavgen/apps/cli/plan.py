"""`uniavgen plan`: what a clip takes of a GPU's memory, before anything is downloaded or loaded."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.arguments import parse_size
from uniavgen.errors import ConfigError
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.load_config import LoadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    load, pixels = o.load_config(context, model=model), parse_size(size)

    from uniavgen.workflows.plan import plan_clip

    clip = plan_clip(load, _task(task), num_frames, pixels)
    if as_json:
        print(json.dumps({"model": model, "task": task, **clip.as_data()}, indent=2))
    else:
        print("\n".join([f"{model}, {task}, {clip.describe()}", *clip.table()]))


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

    vram, pixels = o.load_config(context, model="base").vram, parse_size(size)
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
