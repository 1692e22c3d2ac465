"""`uniavgen export`: trained parts to one model folder that every other command takes as --model."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    transformer: Annotated[
        Path, typer.Option(help="Folder of a training run, a checkpoint of one, or a saved transformer.")
    ],
    parts: Annotated[
        Path, typer.Option(help="Folder with vae, text_encoder, tokenizer and, if there is one, vocoder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model; what it held is replaced.")],
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="How the weights are stored.")
    ] = "float16",
    size: Annotated[
        int, typer.Option(help="Pixels a side of the model's pictures; 0 keeps the aspect of pictures.")
    ] = 128,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="How the model samples by default: steps=16, shift=3 ...; repeatable."),
    ] = None,
) -> None:
    """Put a trained transformer and its codecs together."""
    import torch

    from uniavgen.config import load
    from uniavgen.inference.sampling_config import SamplingConfig
    from uniavgen.workflows.export import export_model, folder_megabytes

    export_model(transformer, parts, out, getattr(torch, dtype), size, load(SamplingConfig, [], settings or ()))
    print(f"the model is in {out}, {folder_megabytes(out):.1f} MB")
