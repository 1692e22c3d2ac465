"""`uniavgen evaluate`: clips of any systems, or of a model, measured on a set of prompts."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli import options as o
from uniavgen.apps.config_options import given_values
from uniavgen.arguments import parse_size
from uniavgen.errors import ConfigError
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.timebase import NUM_FRAMES
from uniavgen.workflows.load_config import LoadConfig

CONFIGS = {o.ClipOptions: ("preview", "verbatim", "language"), SamplingConfig: (), LoadConfig: ("model",)}
"""Dataclasses whose fields are options, for --generate, and fields that are none."""
ASSETS, JUDGE_KEY = "UNIAVGEN_ASSETS", "UNIAVGEN_JUDGE_KEY"


def evaluate(
    context: typer.Context,
    prompts: Annotated[Path, typer.Option(metavar="FILE", help="Prompts, one JSON object a line.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report; a second run goes on.")],
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]DIR", help="Folders of clips ID.mp4, one for each system."),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the system of a single folder.")] = None,
    metrics: Annotated[
        str,
        typer.Option(metavar="LIST", help="Names or groups (truth, codecs, paper, open), by commas; all if left out."),
    ] = "",
    assets: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar=ASSETS, help="Folder of networks that metrics use.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="A network: file, folder or hub name; repeatable.")
    ] = None,
    chance: Annotated[
        bool, typer.Option("--chance", help="Also measure every clip against the next prompt, as a control.")
    ] = False,
    published: Annotated[
        str, typer.Option(metavar="NAME", help="Published rows beside ours: table1, grid, emtd or none.")
    ] = "table1",
    generate: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Make the clips first: nano, a folder or a hub name.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="LIST", help="Tasks to generate, by commas; all; or reconstruction.")
    ] = "joint",
    num_frames: o.NumFrames = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Endpoint of OpenAI's kind for TC and EC; its key in ${JUDGE_KEY}."),
    ] = None,
    judge_model: Annotated[str, typer.Option(metavar="NAME", help="Model that judges.")] = "gemini-2.5-pro",
) -> None:
    """Measure clips of any systems against the prompts they were made from, and write a report.

    Everything that was measured is kept in the report's folder, so a run that was stopped goes on where it was.
    """
    from uniavgen.apps.cli.progress import named_bars
    from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
    from uniavgen.workflows.evaluate import EvaluationConfig, parse_systems, parse_weights
    from uniavgen.workflows.evaluate import evaluate as evaluate_systems
    from uniavgen.workflows.generate_set import SetConfig, generate_set, parse_kinds
    from uniavgen.workflows.load import ModelLoader

    load = o.load_config(context, **({} if generate is None else {"model": generate}))
    if generate is None and load.lora:
        raise ConfigError("--lora changes the model that makes the clips; name it with --generate, or leave --lora out")
    config = EvaluationConfig(
        prompts=prompts,
        out=out,
        systems=parse_systems(clips or [], system),
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
        weights=parse_weights(weights or []),
        assets=assets,
        chance=chance,
        published=published,
        judge=JudgeEndpoint(url=judge, model=judge_model, key=os.environ.get(JUDGE_KEY, "")) if judge else None,
        device=load.device,
    )
    with named_bars("clip") as on_progress:
        generate_systems = None
        if generate is not None:
            clip = o.ClipOptions(**given_values(context, o.ClipOptions))
            set_config = SetConfig(
                kinds=parse_kinds(task),
                num_frames=num_frames or NUM_FRAMES,
                size=parse_size(clip.size),
                seed=clip.seed,
                sampling=given_values(context, SamplingConfig),
            )
            generate_systems = partial(generate_set, ModelLoader(load, print), set_config, on_progress=on_progress)
        report = evaluate_systems(config, generate_systems, lambda each: on_progress("measure", each.done, each.total))
    typer.echo(report.to_markdown())
    measured = sum(each.num_measured for each in report.systems)
    problems = sum(each.num_problems for each in report.systems)
    typer.echo(
        f"{measured} clips measured, {problems} rows with a problem; in {out}: report.html, report.json, report.md"
    )
