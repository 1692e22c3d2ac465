"""Networks of our own as files: safetensors, in float16 where the package ships them."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from uniavgen.artifacts import atomic_file, first_line
from uniavgen.errors import CheckpointError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def shipped(name: str) -> Path:
    """Where a network lies inside the package."""
    return Path(str(resources.files("uniavgen") / "weights" / "evaluation" / f"{name}.safetensors"))


def store(network: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Write the weights, whole or not at all."""
    weights = {name: _stored(value, dtype) for name, value in network.state_dict().items()}
    with atomic_file(path) as partial:
        save_file(weights, partial, dict(metadata))


def load(network: ModuleT, path: Path, what: str, command: str) -> ModuleT:
    """`network` with the weights at `path`, in float32 and ready to use; CheckpointError if the file is none of it."""
    if not path.is_file():
        raise CheckpointError(f"no {what} at {path}; train one with `uniavgen {command}`")
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} holds no {what} ({first_line(error)}); train one with `uniavgen {command}`"
        ) from error
    return network.eval().requires_grad_(False)


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype).contiguous() if value.is_floating_point() else value.contiguous()
