"""Low-rank adapters (LoRA) of a transformer as files of diffusers and peft."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from diffusers.loaders.peft import PeftAdapterMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from uniavgen.checkpoint.saved_model import loading_errors
from uniavgen.checkpoint.weights import check_finite, read_names
from uniavgen.errors import CheckpointError

ADAPTER_FILE: Final = "pytorch_lora_weights.safetensors"
"""The name that diffusers gives adapters."""
METADATA_KEY: Final = "lora_adapter_metadata"
"""Under which diffusers puts peft's settings into the header of the file."""
LORA_MARK: Final = ".lora_"
"""Stands in the names of an adapter's parameters, between the module it adapts and `A` or `B`."""


def is_adapter(folder: Path) -> bool:
    """Returns whether a folder holds an adapter."""
    return (folder / ADAPTER_FILE).is_file()


def has_adapter(model: nn.Module) -> bool:
    """Returns whether a model has an adapter."""
    return bool(adapter_configs(model))


def adapter_configs(model: nn.Module) -> dict[str, Any]:
    """Returns the settings of a model's adapters (`peft.LoraConfig`) by their names."""
    return dict(getattr(model, "peft_config", None) or {})


def is_lora_parameter(name: str) -> bool:
    """Returns whether a parameter of this name belongs to an adapter, and not to the model below it."""
    return LORA_MARK in name


def save_adapter(model: PeftAdapterMixin, folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes the one adapter of a model, whose whole `weights` are given, with rank and alpha in its header.

    As diffusers' `save_lora_adapter`, but the same adapter gives the same bytes: several keys of a header would come in
    an order that changes, so this one has none for the format.
    """
    from peft.utils import get_peft_model_state_dict

    configs = adapter_configs(model)
    if len(configs) != 1:
        raise CheckpointError(f"one adapter can be saved at a time, the model has {len(configs)}; delete the others")
    [(name, config)] = configs.items()
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    header = {METADATA_KEY: json.dumps(settings, indent=2, sort_keys=True)}
    tensors = get_peft_model_state_dict(model, dict(weights), adapter_name=name)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / ADAPTER_FILE, header)


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Adds the adapter of a folder to a model; raises CheckpointError where it is damaged or of another model."""
    assert isinstance(model, PeftAdapterMixin)
    file = folder / ADAPTER_FILE
    modules = {name.partition(LORA_MARK)[0] for name in read_names(file)}
    # diffusers only warns of layers that the model does not have, and leaves them out.
    unknown = sorted(modules - {name for name, _ in model.named_modules()})
    if unknown:
        raise CheckpointError(
            f"the adapter {file} does not fit this model: {len(unknown)} of {len(modules)} layers are unknown, first "
            f"{unknown[0]}; load it into the model that it was trained on"
        )
    with loading_errors(f"the adapter {file} does not fit this model", "load it into the model that it was trained on"):
        model.load_lora_adapter(folder, prefix=None, weight_name=ADAPTER_FILE, use_safetensors=True)
    values = ((name, value.detach()) for name, value in model.named_parameters() if is_lora_parameter(name))
    check_finite(values, file)
