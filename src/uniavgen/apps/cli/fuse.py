"""`uniavgen fuse`: a model and adapters to one model folder that every other command takes as --model."""

from pathlib import Path
from typing import Annotated

import typer


def fuse(
    lora: Annotated[
        list[str], typer.Option(metavar="FILE[:SCALE]", help="Adapter (LoRA) to add, as for generate; repeatable.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model; what it held is replaced.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="'nano', a folder, or a name on the hub.")] = "nano",
) -> None:
    """Add adapters to the weights of a model and write it as a new model."""
    from uniavgen.workflows.export import folder_megabytes
    from uniavgen.workflows.fuse import fuse as fuse_model

    fuse_model(model, lora, out, print)
    print(f"the model is in {out}, {folder_megabytes(out):.1f} MB")
