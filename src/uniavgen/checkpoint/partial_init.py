"""A start for training: weights of one branch only, in our names, as `uniavgen convert` makes them of a Wan model."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from uniavgen.checkpoint.stores import find_weights
from uniavgen.errors import CheckpointError

PARTIAL_INIT_STEM: Final = "start"


def is_partial_init(folder: Path) -> bool:
    """Whether a folder holds a start."""
    return any((folder / f"{PARTIAL_INIT_STEM}.safetensors{ending}").is_file() for ending in ("", ".index.json"))


def load_partial_init(model: nn.Module, folder: Path) -> None:
    """Copy the start's values into a model, tensor by tensor; the others stay. CheckpointError if sizes differ."""
    weights, values = find_weights(folder, PARTIAL_INIT_STEM, "a start"), model.state_dict()
    wrong = [
        f"{name} is {list(shape)} instead of {list(values[name].shape)}" if name in values else f"{name} is unknown"
        for name, shape in weights.shapes.items()
        if name not in values or tuple(values[name].shape) != shape
    ]
    if wrong:
        raise CheckpointError(
            f"the start in {folder} does not fit this model: {len(wrong)} of {len(weights.tensors)} parameters, first "
            f"{wrong[0]}; train a model of its sizes"
        )
    with torch.no_grad():
        for name in weights.tensors:
            values[name].copy_(weights.read(name))
