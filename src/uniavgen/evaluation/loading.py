"""Published weights into our classes of published networks, and what went wrong where they do not fit."""

from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from uniavgen.errors import CheckpointError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_weights(network: ModuleT, path: Path, what: str, prefix: str = "") -> ModuleT:
    """`network` with the weights of a .pt, .pth, .model or .safetensors file, ready to use.

    `prefix` is cut off the names. Pickles are read without running code. CheckpointError names the first difference.
    """
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        stored = {name.removeprefix(prefix): value for name, value in stored.items()}
        network.load_state_dict(stored)
    except (UnpicklingError, SafetensorError, RuntimeError, AttributeError, EOFError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"{path} holds no weights of {what} ({' '.join(lines[:2])[:200]})") from None
    return network.eval().requires_grad_(False)
