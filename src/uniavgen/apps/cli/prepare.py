"""`uniavgen prepare`: a data set to the features that training reads."""

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    data: Annotated[Path, typer.Option(help="Folder of shards (uniavgen synth), or of speech with an index.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the feature shards; a second run goes on where it stopped.")],
    model: Annotated[str, typer.Option(help="Preset or YAML file of the transformer's sizes.")] = "nano/model",
    parts: Annotated[
        Path | None,
        typer.Option(help="Model folder with vae, text_encoder and tokenizer; none for speech alone."),
    ] = None,
    num_frames: Annotated[int, typer.Option(help="Pixel frames a clip, 1 + 4n.")] = 81,
    device: Annotated[str, typer.Option(help="Where the codecs run: cpu, cuda, cuda:1 ...")] = "cpu",
    limit: Annotated[int | None, typer.Option(help="Take only the first so many clips.")] = None,
) -> None:
    """Encode every clip once: video latents, mel, face mask on the token grid, caption features."""
    from uniavgen.apps.cli.progress import progress_bar
    from uniavgen.config import load
    from uniavgen.models.config import TransformerConfig
    from uniavgen.workflows.prepare import prepare_features

    settings = load(TransformerConfig, [model])
    with progress_bar("clip", "prepare") as on_progress:
        count = prepare_features(
            data,
            out,
            settings,
            codecs=parts,
            num_frames=num_frames,
            device=device,
            limit=limit,
            on_progress=on_progress,
        )
    typer.echo(f"{count} clips are prepared in {out}")
