"""`uniavgen prompts`: the built-in set of prompts, and sets out of rendered shards, GRID or EMTD."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.workflows.prompt_sets import PromptSource, make_prompt_set


def prompts(
    kind: Annotated[PromptSource, typer.Argument(help="world: the built-in set; the others are made of --data.")],
    out: Annotated[Path, typer.Option(help="Folder for the set; run again to go on where it stopped.")],
    data: Annotated[Path | None, typer.Option(help="Shards of uniavgen synth, or your copy of GRID or EMTD.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="How many prompts: the first ones.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that draw (world).")] = 1,
    size: Annotated[int, typer.Option(help="Pixels a side (world).")] = 128,
    speech: Annotated[Path | None, typer.Option(help="Made-ahead speech: index.jsonl and opus/ (world).")] = None,
    heads: Annotated[Path | None, typer.Option(help="Head data: mpfb2/ and faceunits01/ (world).")] = None,
) -> None:
    """Make a set of prompts for uniavgen evaluate."""
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.evaluation.sets import SET_FILE
    from uniavgen.synth import WorldSettings

    world = WorldSettings(size=size, speech=speech, heads=heads)
    with progress_bar("clip") as on_progress:
        count = make_prompt_set(kind, out, data, clips, world=world, jobs=jobs, on_progress=on_progress)
    typer.echo(f"{count} prompts in {out / SET_FILE}")
