"""`uniavgen synth`: clips of the synthetic world as shards for training and evaluation."""

from pathlib import Path
from typing import Annotated

import typer

from uniavgen.apps.cli.progress import progress_bar
from uniavgen.synth import Art, WorldSettings
from uniavgen.workflows.render import PREVIEW, render_clips


def synth(
    clips: Annotated[int, typer.Option(min=1, help="How many clips.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards; run again to go on where it stopped.")],
    seed: Annotated[int, typer.Option(min=0, help="The world: the same seed gives the same people and clips.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 128,
    num_frames: Annotated[
        int, typer.Option(metavar="N", help="Length, 1 + 4n. In a second or less, speech is too fast: faces only.")
    ] = 81,
    source: Annotated[str, typer.Option(help="Speech: made (ahead), kokoro or flite.")] = "made",
    split: Annotated[str, typer.Option(help="Sentences: train, val (held out) or all.")] = "all",
    people_per_voice: Annotated[int, typer.Option(min=1, help="People who share a voice of the source.")] = 8,
    art: Annotated[
        Art, typer.Option(help="How it is drawn: shaded, or drawn with flat tones and outlines.")
    ] = Art.SHADED,
    movement: Annotated[
        float, typer.Option(help="How much heads, camera and backgrounds move, times the usual; at 0 only faces do.")
    ] = 1.0,
    sound_only: Annotated[
        bool, typer.Option("--sound-only", help="Draw nothing, for training the audio branch alone: far quicker.")
    ] = False,
    speech: Annotated[Path | None, typer.Option(help="Made-ahead speech: index.jsonl and opus/.")] = None,
    heads: Annotated[Path | None, typer.Option(help="Head data: mpfb2/ and faceunits01/.")] = None,
    voices: Annotated[Path | None, typer.Option(help="Kokoro: *.onnx, vocab.json and voices/.")] = None,
) -> None:
    """Make clips of the synthetic world: pictures, sound, and the truth about them."""
    settings = WorldSettings(
        source=source,
        split=split,
        size=size,
        num_frames=num_frames,
        people_per_voice=people_per_voice,
        art=art,
        movement=movement,
        speech=speech,
        heads=heads,
        voices=voices,
    )
    with progress_bar("clip") as on_progress:
        render_clips(settings, clips, out, seed=seed, jobs=jobs, sound_only=sound_only, on_progress=on_progress)
    typer.echo(f"{clips} clips in {out}" + ("" if sound_only else f", preview in {out / PREVIEW}"))
