"""How the blocks are computed, not what: the attention kernel, and compiled blocks.

Both give the same numbers but for rounding (kernels that quantise, such as sage, round more).
"""

from enum import StrEnum
from typing import TYPE_CHECKING

from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    from diffusers.models.attention_dispatch import AttentionBackendName

    from uniavgen.models.transformer import UniAVGenTransformer


class Attention(StrEnum):
    """Kernels of self-attention, by the names that users know."""

    SDPA = "sdpa"
    """torch's own choice among its kernels."""
    MATH = "math"
    """Two plain products and a softmax, on any device; to compare with."""
    CUDNN = "cudnn"
    FLASH = "flash"
    """FlashAttention 2, the package flash-attn."""
    FLASH_3 = "flash3"
    """FlashAttention 3, built from its sources; Hopper GPUs."""
    SAGE = "sage"
    """SageAttention, the package sageattention; products of 8-bit numbers."""


_BACKENDS = {
    Attention.SDPA: "native",
    Attention.MATH: "_native_math",
    Attention.CUDNN: "_native_cudnn",
    Attention.FLASH: "flash",
    Attention.FLASH_3: "_flash_3",
    Attention.SAGE: "sage",
}
"""diffusers' names."""


def attention_named(name: str) -> Attention:
    """ConfigError for a name that is none."""
    try:
        return Attention(name)
    except ValueError:
        raise ConfigError(f"there is no attention '{name}'; use one of {', '.join(Attention)}") from None


def check_attention(attention: Attention, device: str) -> None:
    """ConfigError where the kernel is not installed or does not run on a device; needs no model."""
    from diffusers.models.attention_dispatch import _check_attention_backend_requirements

    if attention in (Attention.SDPA, Attention.MATH):
        return
    if not device.startswith("cuda"):
        raise ConfigError(f"attention '{attention}' runs on CUDA GPUs only, the device is {device}; use sdpa")
    try:
        _check_attention_backend_requirements(_backend(attention))
    except RuntimeError as error:
        raise ConfigError(f"attention '{attention}' is not installed here ({error}); install it or use sdpa") from None


def use_attention(transformer: "UniAVGenTransformer", attention: Attention) -> None:
    """Give self-attention a kernel.

    Text attention stays with torch: it is 1 % of the work and may need a mask, which most kernels do not take.
    Interactions always call torch themselves. Unlike diffusers' `set_attention_backend`, this leaves other models of
    the process alone.
    """
    for block in transformer.blocks:
        for branch in (block.video, block.audio):
            branch.attn1.processor._attention_backend = _backend(attention)


def compile_blocks(transformer: "UniAVGenTransformer") -> None:
    """Compile blocks in place, at their first run: those with an interaction share code, so do those without.

    A new picture size, gate or batch compiles again.
    """
    transformer.compile_repeated_blocks()


def _backend(attention: Attention) -> "AttentionBackendName":
    from diffusers.models.attention_dispatch import AttentionBackendName

    return AttentionBackendName(_BACKENDS[attention])
