"""Initial weights of one branch only, in our names, as `uniavgen convert` makes them of a Wan model."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from uniavgen.checkpoint.weights import check_finite, find_weights, read_tensors
from uniavgen.errors import CheckpointError

PARTIAL_INIT_STEM: Final = "start"


def is_partial_init(folder: Path) -> bool:
    """Returns whether a folder holds initial weights of one branch."""
    return any((folder / f"{PARTIAL_INIT_STEM}.safetensors{ending}").is_file() for ending in ("", ".index.json"))


def load_partial_init(model: nn.Module, folder: Path) -> None:
    """Copies the weights in `folder` into a model; its others stay.

    Raises CheckpointError where they are damaged or sizes differ.
    """
    weights = find_weights(folder, "initial weights", f"{PARTIAL_INIT_STEM}.safetensors")
    parameters = model.state_dict()
    wrong = [
        f"{name} is {list(tensor.shape)} instead of {list(parameters[name].shape)}"
        if name in parameters
        else f"{name} is unknown"
        for name, tensor in weights.items()
        if name not in parameters or tuple(parameters[name].shape) != tensor.shape
    ]
    if wrong:
        raise CheckpointError(
            f"the initial weights in {folder} do not fit this model: {len(wrong)} of {len(weights)} parameters, first "
            f"{wrong[0]}; train a model of its sizes"
        )
    values = read_tensors(weights)
    check_finite(values.items(), folder)
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
