"""Adds a low-rank adapter to a transformer and freezes everything below it, in fewer bytes where asked.

A linear layer W x becomes W x + (alpha / rank) B A x, with A (rank x in) random and B (out x rank) zero, so that the
first step sees the model as it was. [LoRA, arXiv:2106.09685] Only A and B are trained, averaged and saved.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uniavgen.checkpoint.lora import has_adapter, is_adapter, is_lora_parameter
from uniavgen.checkpoint.lora_file import open_lora
from uniavgen.checkpoint.lora_fusing import fit_lora
from uniavgen.distributed import ParallelContext
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.diffusers_compat import is_kept_in_float32
from uniavgen.models.parts import Part, part_of
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.config import LoRAConfig
from uniavgen.training.sharding import empty_model

QUANTIZED_BASES = ("fp8", "int8")
FINGERPRINT_VALUES = 64
"""Of each tensor that `base_fingerprint` reads, about."""
INIT, BASE = "init", "base"
"""Keys in a checkpoint's settings: the weights a run began with, and `base_fingerprint` of a model below an adapter."""


def check_base_storage(config: LoRAConfig, context: ParallelContext) -> None:
    """Raises ConfigError where the model below the adapter cannot be stored as the settings say."""
    if config.base not in QUANTIZED_BASES:
        return
    if find_spec("torchao") is None:
        raise ConfigError(
            f"lora.base {config.base} needs torchao, which is missing; pip install 'uniavgen[quant]', or set it to bf16"
        )
    if context.world_size > 1:
        raise ConfigError(
            f"lora.base {config.base} is for one process, these are {context.world_size}, which share the model; set "
            "it to bf16"
        )


def check_adapter_sources(config: LoRAConfig, settings: TransformerConfig, init: Sequence[Path]) -> None:
    """Checks what an adapter is to be trained on, before weights are read.

    Raises ConfigError where no weights of a model are among `init`, or the model lacks a part; CheckpointError where an
    adapter among them is damaged or of another model.
    """
    model = empty_model(settings, {})
    adapted_layers(model, config.targets)
    adapters = [source for source in init if is_adapter(source) or is_adapter(source / "transformer")]
    if len(adapters) == len(init):
        given = f"--init names the adapter {adapters[0]} alone" if adapters else "there is no --init"
        raise ConfigError(f"with lora a model is adapted that is there already, but {given}; name the model by --init")
    for adapter in adapters:
        fit_lora(open_lora(adapter), {name: tuple(value.shape) for name, value in model.named_parameters()})


@torch.no_grad()
def base_fingerprint(model: nn.Module) -> str:
    """Returns a checksum of names, sizes and some values of every weight below an adapter, which tells models apart."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not is_lora_parameter(name):
            values = value.flatten()[:: max(1, value.numel() // FINGERPRINT_VALUES)].double().cpu()
            digest.update(f"{name.replace('.base_layer', '')} {list(value.shape)}".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def base_error(stored: Mapping[str, Any], current: Mapping[str, Any], out: Path) -> CheckpointError | None:
    """Returns an error where a checkpoint's adapter, of which these are the settings, belongs on another model."""
    if current.get(BASE) is None or stored.get(BASE) == current[BASE]:
        return None
    return CheckpointError(
        f"the adapter in {out} was trained on another model than {', '.join(current[INIT])}; name that one, which was "
        f"{', '.join(stored.get(INIT, ())) or 'not recorded'}, by --init"
    )


def adapted_layers(model: nn.Module, targets: Sequence[Part]) -> list[str]:
    """Returns the names of the linear layers of some parts: all in blocks, and all that encode the speech text.

    Raises ConfigError where a part has none.
    """
    found: dict[Part, list[str]] = {part: [] for part in targets}
    for name, module in model.named_modules():
        part = part_of(name)
        # Stems are left alone: what is learned of a person or a voice is in the blocks.
        is_inside = name.startswith("blocks.") or part is Part.SPEECH_TEXT
        if part in found and is_inside and isinstance(module, nn.Linear) and not is_lora_parameter(name):
            found[part].append(name.removesuffix(".base_layer"))
    empty = [part.value for part, names in found.items() if not names]
    if empty:
        raise ConfigError(f"lora.targets has {', '.join(empty)}, of which this model has no linear layer; leave it out")
    return [name for names in found.values() for name in names]


def add_adapter(model: UniAVGenTransformer, config: LoRAConfig) -> None:
    """Adds a new adapter in place, unless the model has one already, and lets nothing else be trained.

    The model below is stored as the settings say, but for what always stays float32. Raises as `insert_adapter` does.
    """
    insert_adapter(model, config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_lora_parameter(name))
    _store_base(model, config)


def insert_adapter(model: UniAVGenTransformer, config: LoRAConfig) -> None:
    """Adds a new adapter in place, unless the model has one already.

    A is drawn from torch's global generator. Raises ConfigError where the model lacks a part, or has an adapter of
    another rank, alpha or parts.
    """
    from peft import LoraConfig

    layers = adapted_layers(model, config.targets)
    if not has_adapter(model):
        # No dropout: peft draws it from a generator that knows neither the step nor the sample.
        model.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=layers))
    _check_adapter(model, config, layers)


def _check_adapter(model: nn.Module, config: LoRAConfig, layers: Sequence[str]) -> None:
    """Raises ConfigError where the adapter of a model is not the one that the settings describe."""
    from peft.tuners.lora import LoraLayer

    tuned = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    ranks = {float(rank) for layer in tuned.values() for rank in layer.r.values()}
    alphas = {float(alpha) for layer in tuned.values() for alpha in layer.lora_alpha.values()}
    parts = sorted({str(part_of(name)) for name in tuned})
    if ranks != {config.rank} or alphas != {config.alpha} or {*tuned} != {*layers}:
        described = f"rank {_listed(ranks)}, alpha {_listed(alphas)}, {len(tuned)} layers of {', '.join(parts)}"
        raise ConfigError(
            f"the adapter to begin with has {described}; the settings lora.* say rank {config.rank}, alpha "
            f"{config.alpha:g}, {len(layers)} layers of {', '.join(config.targets)}: make them equal"
        )


def _listed(numbers: Iterable[float]) -> str:
    return " and ".join(f"{number:g}" for number in sorted(numbers))


@torch.no_grad()
def _store_base(model: UniAVGenTransformer, config: LoRAConfig) -> None:
    """Stores what is below the adapter in the precision of the settings, in place."""
    if config.base == "fp32":
        return
    for name, parameter in model.named_parameters():
        if not is_lora_parameter(name) and not is_kept_in_float32(type(model), name):
            parameter.data = parameter.data.to(torch.bfloat16)
    if config.base not in QUANTIZED_BASES:
        return
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]
        Float8WeightOnlyConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    def is_quantized(layer: nn.Module, name: str) -> bool:
        is_unchanged = is_lora_parameter(name) or is_kept_in_float32(type(model), name)
        return isinstance(layer, nn.Linear) and not is_unchanged

    quantize_(model.blocks, Int8WeightOnlyConfig() if config.base == "int8" else Float8WeightOnlyConfig(), is_quantized)
