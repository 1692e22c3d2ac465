"""`uniavgen export`: trained parts to one model folder that every other command takes as --model."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    transformer: Annotated[Path, typer.Option(help="Folder of a training run, or a saved transformer.")],
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
    import json

    import torch
    from diffusers.utils import logging

    from uniavgen.artifacts import atomic_folder
    from uniavgen.config import load
    from uniavgen.errors import CheckpointError
    from uniavgen.inference.sampling_config import SamplingConfig
    from uniavgen.models.transformer import UniAVGenTransformer
    from uniavgen.workflows.load_codecs import load_codecs

    sampling = load(SamplingConfig, [], settings or ())
    logging.set_verbosity_error()
    saved = transformer / "transformer" if (transformer / "transformer").is_dir() else transformer
    if not (saved / "config.json").is_file():
        raise CheckpointError(f"there is no finished transformer in {transformer}; train it to its last step first")
    pipeline = load_codecs(parts).build_pipeline(UniAVGenTransformer.from_pretrained(saved), size, sampling)
    with atomic_folder(out) as partial:
        pipeline.to(getattr(torch, dtype))
        # transformers computes in the precision of the file, diffusers in float32: this keeps the parts alike.
        pipeline.text_encoder.float()
        pipeline.save_pretrained(partial)
        for config in partial.glob("*/config.json"):
            # Where the parts lay when they were put together is nobody's business.
            stored = json.loads(config.read_text())
            stored.pop("_name_or_path", None)
            config.write_text(json.dumps(stored, indent=2) + "\n")
    megabytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    typer.echo(f"the model is in {out}, {megabytes:.1f} MB")
