"""Names of the tensors of adapters (LoRA), as several programs write them, and the parameters here that they change.

    this project     blocks.0.video.attn1.to_q.lora_A.weight
    diffusers        transformer.blocks.0.attn1.to_q.lora_A.weight
    peft             base_model.model.blocks.0.attn1.to_q.lora_B.weight
    ComfyUI, Wan     diffusion_model.blocks.0.self_attn.q.lora_down.weight, and .alpha, .diff, .diff_b, .diff_m
    kohya, musubi    lora_unet_blocks_0_self_attn_q.lora_up.weight, and .alpha (VideoX-Fun: lora_unet__blocks ...)

A name is a module and what is stored of it. Modules of Wan2.2-TI2V-5B are found in the video branch by the tables that
convert its weights (`keymap`).
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from uniavgen.checkpoint.keymap import WAN_DIFFUSERS, WAN_ORIGINAL


class LoraPart(Enum):
    """Names what a tensor of an adapter is to the module that it changes."""

    DOWN = "down"
    """A of W + alpha / rank * B A, rank x inputs."""
    UP = "up"
    """B of W + alpha / rank * B A, outputs x rank."""
    ALPHA = "alpha"
    WEIGHT_DIFFERENCE = "weight difference"
    """Added to the weight as it is."""
    BIAS_DIFFERENCE = "bias difference"
    UP_BIAS = "up bias"
    """Bias of B, which is scaled as the product is."""
    MODULATION_DIFFERENCE = "modulation difference"


_PARTS: Final = tuple(
    (part, re.compile(rf"(?P<module>.+)\.(?:{pattern})"))
    for part, pattern in (
        # peft may put the adapter's own name behind the letter.
        (LoraPart.DOWN, r"(?:lora_A|lora_down|lora\.down)(?:\.\w+)?\.weight"),
        (LoraPart.UP, r"(?:lora_B|lora_up|lora\.up)(?:\.\w+)?\.weight"),
        (LoraPart.ALPHA, r"(?:lora_)?alpha"),
        (LoraPart.WEIGHT_DIFFERENCE, r"diff"),
        (LoraPart.BIAS_DIFFERENCE, r"diff_b"),
        (LoraPart.UP_BIAS, r"(?:lora_B|lora_up|lora\.up)(?:\.\w+)?\.bias"),
        (LoraPart.MODULATION_DIFFERENCE, r"diff_m"),
    )
)
_OTHER_KINDS: Final = {
    "DoRA": re.compile(r"dora_scale|lora_magnitude_vector"),
    "LoHa": re.compile(r"hada_w"),
    "LoKr": re.compile(r"lokr_w"),
    "LoCon with a Tucker core": re.compile(r"lora_mid"),
    "an adapter of embeddings": re.compile(r"lora_embedding_"),
    "a replacement of weights": re.compile(r"\.(reshape_weight|set_weight)$"),
}
_DOTTED_PREFIXES: Final = ("base_model.", "model.", "diffusion_model.", "transformer.", "module.", "pipe.", "dit.")
_FLAT_PREFIXES: Final = ("lora_unet_", "lora_transformer_", "lycoris_")
_MODULATION: Final = ".modulation"


@dataclass(frozen=True)
class AdapterLayout:
    """A way to name the modules of the model that an adapter was trained on."""

    title: str
    to_source: Callable[[str], str | None]
    """Takes the name of a parameter of ours; returns its name there, None where it has none."""

    def places(self, parameters: Iterable[str]) -> dict[str, str]:
        """Returns the names of modules, and of parameters outside of any, without dots, to ours."""
        pairs = {(self.to_source(name), name) for name in parameters}
        return {_flat(_stem(source)): _stem(name) for source, name in pairs if source is not None}


LAYOUTS: Final = (
    AdapterLayout("this project's model", lambda name: name),
    AdapterLayout(WAN_DIFFUSERS.title, WAN_DIFFUSERS.to_source),
    AdapterLayout(WAN_ORIGINAL.title, WAN_ORIGINAL.to_source),
)


def split_name(name: str) -> tuple[str, LoraPart] | None:
    """Returns the module of a tensor, without prefixes, and what the tensor is; None for a name of no adapter."""
    for part, pattern in _PARTS:
        if match := pattern.fullmatch(name):
            return _without_prefixes(match["module"]), part
    return None


def other_kind(names: Iterable[str]) -> str | None:
    """Returns the kind of an adapter that is no LoRA, by the names of its tensors; None for a LoRA."""
    names = list(names)
    return next((kind for kind, pattern in _OTHER_KINDS.items() if any(map(pattern.search, names))), None)


def find_layout(modules: Iterable[str], parameters: Iterable[str]) -> dict[str, str]:
    """Returns the places of the layout in which most modules have one, by `AdapterLayout.places`."""
    modules, parameters = set(modules), list(parameters)
    every = [layout.places(parameters) for layout in LAYOUTS]
    return max(every, key=lambda places: sum(_flat(module) in places for module in modules))


def target_of(module: str, part: LoraPart, places: Mapping[str, str], parameters: Collection[str]) -> str | None:
    """Returns the parameter of ours that a tensor changes; None where it has no place."""
    if part is LoraPart.MODULATION_DIFFERENCE:
        module += _MODULATION
    stem = places.get(_flat(module))
    if stem is None:
        return None
    target = f"{stem}.bias" if part in (LoraPart.BIAS_DIFFERENCE, LoraPart.UP_BIAS) else f"{stem}.weight"
    return next((name for name in (target, stem) if name in parameters), None)


def _flat(name: str) -> str:
    """Returns a name with underscores for dots: some programs write all of it so, some a part."""
    return name.replace(".", "_")


def _stem(name: str) -> str:
    """Returns a parameter's name without its leaf; all of it where it has none."""
    return name.removesuffix(".weight").removesuffix(".bias")


def _without_prefixes(module: str) -> str:
    for prefix in _FLAT_PREFIXES:
        if module.startswith(prefix):
            return module.removeprefix(prefix).lstrip("_")
    while prefix := next((prefix for prefix in _DOTTED_PREFIXES if module.startswith(prefix)), None):
        module = module.removeprefix(prefix)
    return module
