"""Adapters (LoRA) as they lie on disk: found by what a user names, their headers read, their scaling known.

FILE is a .safetensors file, or a folder: of diffusers (`pytorch_lora_weights.safetensors`), of peft
(`adapter_config.json`, `adapter_model.safetensors`), or of a training run of this project.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import checksum, parse_json, path_exists, read_json
from uniavgen.checkpoint.lora import ADAPTER_FILE, METADATA_KEY
from uniavgen.checkpoint.lora_keymap import LoraPart, other_kind, split_name
from uniavgen.checkpoint.weights import StoredTensor, Weights, read_file, read_metadata
from uniavgen.errors import CheckpointError, ConfigError

_PEFT_FILE: Final = "adapter_model.safetensors"
_PEFT_CONFIG: Final = "adapter_config.json"
_MAX_ALPHA: Final = 1e9
"""Of any use."""
_COPY: Final = "copy or download it again"


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """An adapter whose headers were read."""

    path: Path
    """As the user named it."""
    file: Path
    scale: float
    modules: Mapping[str, Mapping[LoraPart, StoredTensor]]
    """The tensors of each module that it changes, under the name that the module has in it."""
    foreign: tuple[str, ...]
    """Names of tensors that are no part of an adapter."""
    config: Mapping[str, Any]
    """peft's settings; empty where a file has none."""

    @property
    def name(self) -> str:
        """Returns the name of the file or folder."""
        return self.path.resolve().name

    @cached_property
    def settings(self) -> dict[str, str | float]:
        """What a clip records of it: name, scale and checksum."""
        return {"name": self.name, "scale": self.scale, "sha256": checksum(self.file)}

    def alpha(self, module: str) -> float | None:
        """Returns the alpha that its config gives a module; None where there is no config."""
        patterns = self.config.get("alpha_pattern") or {}
        if patterns:
            from peft.utils.other import get_pattern_key

            module = get_pattern_key(list(patterns), module)
        alpha = patterns.get(module, self.config.get("lora_alpha"))
        return None if alpha is None else float(alpha)

    def factor(self, alpha: float | None, rank: int) -> float:
        """Returns what the product of both matrices is multiplied by: the scale times alpha / rank.

        alpha: None is the rank. peft's rank-stabilised adapters divide by the root of the rank.
        """
        if alpha is None:
            return self.scale
        return self.scale * alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def parse_lora(text: str | Path) -> tuple[Path, float]:
    """Returns path and scale of FILE or FILE:scale; a path that exists as a whole wins.

    Raises ConfigError where the scale is not finite or FILE is empty.
    """
    path, separator, ending = str(text).rpartition(":")
    if not str(text) or (separator and not path):
        raise ConfigError(f"--lora is FILE or FILE:0.8, got '{text}'; name a file or folder")
    if isinstance(text, Path) or not separator or path_exists(Path(text)):
        return Path(text), 1.0
    try:
        scale = float(ending)
    except ValueError as error:
        if path_exists(Path(path)):
            raise ConfigError(f"the scale in --lora {text} is a number, got '{ending}'; write FILE:0.8") from error
        # As in C:\me.safetensors.
        return Path(text), 1.0
    if not math.isfinite(scale):
        raise ConfigError(f"the scale in --lora {text} is a finite number, got {ending}; write FILE:0.8")
    return Path(path), scale


def open_lora(text: str | Path) -> LoraFile:
    """Reads the headers of the adapter FILE or FILE:scale.

    Raises ConfigError for the scale, and CheckpointError where there is no adapter, it is damaged, or of a kind that is
    not known here.
    """
    path, scale = parse_lora(text)
    file = _find_file(path)
    weights = read_file(file)
    if kind := other_kind(weights):
        raise CheckpointError(f"{file} is {kind}, and only LoRA is known here; extract a LoRA from it")
    modules, foreign = _modules(weights, file)
    if not modules:
        raise CheckpointError(
            f"{file} is no adapter: none of its {len(weights)} tensors belongs to a LoRA; name a LoRA file, and a "
            "model as --model"
        )
    return LoraFile(path=path, file=file, scale=scale, modules=modules, foreign=foreign, config=_peft_config(file))


def _find_file(path: Path) -> Path:
    if not path_exists(path):
        raise CheckpointError(f"there is no adapter '{str(path)[:200]}'; name a .safetensors file or its folder")
    if not path.is_dir():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"the adapter {path} is no .safetensors file; convert it to one")
        return path
    known = (ADAPTER_FILE, _PEFT_FILE, f"transformer/{ADAPTER_FILE}")
    files = [path / name for name in known if path_exists(path / name)] or sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(str(file.relative_to(path)) for file in files[:4])
        raise CheckpointError(f"{path} has {len(files)} files that could be the adapter: {names}; name one of them")
    if path_exists(path / "model_index.json"):
        raise CheckpointError(f"{path} is a model and no adapter; give it as --model")
    raise CheckpointError(
        f"{path} holds no adapter: expected {', '.join(known)}; name another folder, or train the adapter to its last "
        "step"
    )


def _modules(weights: Weights, file: Path) -> tuple[dict[str, dict[LoraPart, StoredTensor]], tuple[str, ...]]:
    """Returns the tensors of each module, and names that belong to none. Raises CheckpointError for what is damaged."""
    modules: dict[str, dict[LoraPart, StoredTensor]] = {}
    foreign = []
    for name, tensor in weights.items():
        if (found := split_name(name)) is None:
            foreign.append(name)
            continue
        module, part = found
        parts = modules.setdefault(module, {})
        if part in parts:
            raise CheckpointError(f"{file} has both {parts[part].key} and {name}; leave one adapter in it")
        parts[part] = tensor
    for module, parts in modules.items():
        _check_parts(module, parts, file)
    return modules, tuple(foreign)


def _check_parts(module: str, parts: Mapping[LoraPart, StoredTensor], file: Path) -> None:
    """Raises CheckpointError where the two matrices of a module do not belong together."""
    down, up, alpha = (parts.get(part) for part in (LoraPart.DOWN, LoraPart.UP, LoraPart.ALPHA))
    lone = {LoraPart.ALPHA, LoraPart.UP_BIAS} & parts.keys()
    if (down is None) != (up is None) or (down is None and lone and lone == parts.keys()):
        given = next(iter(parts.values())).key
        raise CheckpointError(f"{file} is damaged: it has {given} without the matrices of {module}; {_COPY}")
    if down is None or up is None:
        return
    if len(down.shape) < 2 or len(up.shape) < 2 or not down.shape[0] or down.shape[0] != up.shape[1]:
        raise CheckpointError(
            f"{file} is damaged: {down.key} of {list(down.shape)} and {up.key} of {list(up.shape)} have no common "
            f"rank; {_COPY}"
        )
    if alpha is not None and math.prod(alpha.shape) != 1:
        raise CheckpointError(f"{file} is damaged: {alpha.key} has {math.prod(alpha.shape)} numbers, not one; {_COPY}")


def _peft_config(file: Path) -> dict[str, Any]:
    """Returns peft's settings, of the file beside an adapter or of its header. Raises CheckpointError."""
    beside, text = file.parent / _PEFT_CONFIG, read_metadata(file).get(METADATA_KEY)
    if file.name == _PEFT_FILE:
        if not path_exists(beside):
            raise CheckpointError(f"{file} lacks the {_PEFT_CONFIG} with its alpha; copy the whole folder")
        config = read_json(beside, CheckpointError, _COPY)
    elif text is None:
        return {}
    else:
        config = parse_json(text, f"the {METADATA_KEY} of {file}", CheckpointError, _COPY)
        # A pipeline's file names the component of each setting.
        config = {name.removeprefix("transformer."): value for name, value in config.items()}
    patterns = config.get("alpha_pattern") or {}
    alphas: list[Any] = [*patterns.values(), config.get("lora_alpha", 1)] if isinstance(patterns, dict) else [None]
    if not all(type(alpha) in (int, float) and abs(alpha) < _MAX_ALPHA for alpha in alphas):
        raise CheckpointError(f"the settings of the adapter {file} are damaged: its alpha is no number; {_COPY}")
    if config.get("use_dora"):
        raise CheckpointError(f"{file} is DoRA, and only LoRA is known here; extract a LoRA from it")
    return config
