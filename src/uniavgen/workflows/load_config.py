"""What can be chosen about loading a model; light enough to be read by a command line before anything is imported."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from uniavgen.arguments import check_arguments
from uniavgen.distributed import check_device_name
from uniavgen.errors import ConfigError

NANO = "nano"
"""The model whose weights are part of this package."""
MAX_VRAM_GB = 10_000
"""No GPU comes near."""


def _option(default: Any, metavar: str, text: str) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": text})


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """Which model is loaded, on what, and how it is run. Raises ConfigError for what no machine could do.

    The metadata of each field is its help text; front ends make their options of it.
    """

    model: str = _option(NANO, "NAME", "'nano' (inside this package), a folder, or a name on the Hugging Face hub.")
    device: str = _option("auto", "NAME", "auto, cpu, cuda, cuda:N or mps.")
    vram: float | None = _option(None, "GB", "GPU memory to stay within, as cards are sold; what is free if left out.")
    mode: str | None = _option(
        None,
        "NAME",
        "resident, turns, streamed-fp8, streamed or streamed-int8 (docs/memory.md); what fits if left out.",
    )
    attention: str = _option(
        "sdpa", "NAME", "Kernel of self-attention: sdpa; cudnn, flash, flash3 or sage where installed."
    )
    compile: bool = _option(False, "", "Compile the model's blocks first: minutes once, then faster steps.")
    cache: float | None = _option(
        None, "X", "Skip blocks that change less than X (try 0.05) between steps; what that does to lips is unmeasured."
    )
    lora: Sequence[str] = _option(
        (),
        "FILE[:SCALE]",
        "Adapter (LoRA) added to the model: a .safetensors file, its folder, or a training run's.",
    )

    def __post_init__(self) -> None:
        check_arguments(self)
        if not all(isinstance(text, str) for text in self.lora):
            raise ConfigError(f"lora is a list of texts FILE or FILE:scale, got {str(self.lora)[:100]}; pass others")
        check_device_name(self.device)
        if self.vram is not None and not 0 < self.vram <= MAX_VRAM_GB:
            raise ConfigError(
                f"vram is the memory of the GPU in GB, such as 24, got {self.vram:g}; it is above 0 and at most "
                f"{MAX_VRAM_GB}"
            )
