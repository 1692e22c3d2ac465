"""`uniavgen train-reader`: the small networks with which clips are judged, and how well they read."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.workflows.train_perception import PerceptionJob, PerceptionNetwork, train_perception


def train_reader(
    reader: Annotated[
        PerceptionNetwork,
        typer.Argument(help="locator (where the face is), sync (lips, sound), face or voice (gender, age, emotion)."),
    ],
    held_out: Annotated[Path, typer.Option(help="Folder of other rendered clips, to measure it on.")],
    out: Annotated[Path, typer.Option(help="File for the network, .safetensors.")],
    data: Annotated[
        list[Path] | None, typer.Option(help="Folder of rendered clips to learn from (uniavgen synth); repeatable.")
    ] = None,
    voices: Annotated[int, typer.Option(min=1, help="How many voices a voice reader hears; nothing is drawn.")] = 3000,
    speech: Annotated[Path | None, typer.Option(help="For voices: made-ahead speech.")] = None,
    heads: Annotated[Path | None, typer.Option(help="For voices: head data.")] = None,
    held_out_clips: Annotated[int, typer.Option(min=1, help="How many clips to measure on, at most.")] = 100,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; each reader has its own default.")] = None,
    seed: Annotated[int, typer.Option(help="Start and order of learning, and whose voices are heard.")] = 0,
) -> None:
    """Train one of the networks that read clips, and say how well it does on rendered clips it has not seen.

    Faces are then found with the package's locator; a face reader is measured against the package's voice reader.
    """
    from uniavgen.apps.cli.progress import named_bars
    from uniavgen.synth import WorldSettings

    job = PerceptionJob(
        network=reader,
        held_out=str(held_out),
        out=out,
        data=[str(folder) for folder in data or []],
        num_voices=voices,
        world=WorldSettings(speech=speech, heads=heads),
        held_out_clips=held_out_clips,
        steps=steps,
        seed=seed,
    )
    with named_bars() as on_progress:
        rows = train_perception(job, on_progress)
    for name, row in rows.items():
        typer.echo(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in row.items()))
    typer.echo(f"{out}: measured on held-out clips of {held_out}")
