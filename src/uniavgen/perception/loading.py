"""Weights of networks as files: published ones in the formats of their authors, our own as safetensors."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from uniavgen.artifacts import PICKLE_ERRORS, atomic_file, first_line
from uniavgen.errors import CheckpointError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_published(network: ModuleT, path: Path, name: str, prefix: str = "") -> ModuleT:
    """Loads a .pt, .pth, .model or .safetensors file into `network`, frozen and in evaluation mode.

    `prefix` is cut off the names. Pickles are read without running code. CheckpointError names the first difference.
    """
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (*PICKLE_ERRORS, SafetensorError) as error:
        raise CheckpointError(f"{path} holds no weights of {name} ({first_line(error)})") from error
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"{path} holds no weights of {name} but a {type(stored).__name__}")
    return _filled(
        network, {key.removeprefix(prefix): value for key, value in stored.items()}, path, f"weights of {name}"
    )


def shipped_weights(name: str) -> Path:
    """Returns where the weights of a network of our own lie inside the package."""
    return Path(str(resources.files("uniavgen") / "weights" / "perception" / f"{name}.safetensors"))


def save_own(network: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype = torch.float16) -> None:
    """Writes the weights of a network of our own, whole or not at all; the package ships them in float16."""
    weights = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    with atomic_file(path) as partial:
        save_file(weights, partial, dict(metadata))


def load_own(network: ModuleT, path: Path, name: str, command: str) -> ModuleT:
    """Loads a file of `save_own` in float32, frozen and in evaluation mode.

    CheckpointError, which names the command that trains such a network, where the file is missing or another one.
    """
    advice = f"train one with `uniavgen {command}`"
    if not path.is_file():
        raise CheckpointError(f"no {name} at {path}; {advice}")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} holds no {name} ({first_line(error)}); {advice}") from error
    return _filled(network, stored, path, name, f"; {advice}")


def _filled(
    network: ModuleT, stored: Mapping[str, torch.Tensor], path: Path, content: str, advice: str = ""
) -> ModuleT:
    try:
        network.load_state_dict(stored)
    except RuntimeError as error:  # documented: names or shapes differ
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(f"{path} holds no {content} ({' '.join(lines[:2])[:200]}){advice}") from error
    return network.eval().requires_grad_(False)
