"""Kernels of the blocks: attention backends and torch.compile.

They change speed, and results by rounding only (kernels that quantise, such as sage, round more).
"""

from enum import StrEnum
from typing import TYPE_CHECKING

from uniavgen.errors import ConfigError
from uniavgen.models.diffusers_compat import check_attention_backend, set_attention_backend

if TYPE_CHECKING:
    from uniavgen.models.transformer import UniAVGenTransformer


class AttentionKernel(StrEnum):
    """Kernels of self-attention, as the option `--attention` names them."""

    SDPA = "sdpa"
    """torch's scaled_dot_product_attention, which chooses among its own kernels."""
    MATH = "math"
    """Two matrix products and a softmax, on any device; the reference."""
    CUDNN = "cudnn"
    FLASH = "flash"
    """FlashAttention 2, the package flash-attn."""
    FLASH_3 = "flash3"
    """FlashAttention 3, built from source; Hopper GPUs."""
    SAGE = "sage"
    """SageAttention, the package sageattention; int8 products."""


_BACKENDS = {
    AttentionKernel.SDPA: "native",
    AttentionKernel.MATH: "_native_math",
    AttentionKernel.CUDNN: "_native_cudnn",
    AttentionKernel.FLASH: "flash",
    AttentionKernel.FLASH_3: "_flash_3",
    AttentionKernel.SAGE: "sage",
}
"""Kernel -> diffusers' name of the backend."""


def parse_attention(name: str) -> AttentionKernel:
    """Returns the kernel with this name; raises ConfigError where there is none."""
    try:
        return AttentionKernel(name)
    except ValueError as error:
        raise ConfigError(f"there is no attention '{name}'; use one of {', '.join(AttentionKernel)}") from error


def check_attention(attention: AttentionKernel, device: str) -> None:
    """Raises ConfigError where the kernel is not installed or does not run on a device; needs no model."""
    if attention in (AttentionKernel.SDPA, AttentionKernel.MATH):
        return
    if not device.startswith("cuda"):
        raise ConfigError(f"attention '{attention}' runs on CUDA GPUs only, the device is {device}; use sdpa")
    try:
        check_attention_backend(_BACKENDS[attention])
    except RuntimeError as error:
        raise ConfigError(f"attention '{attention}' is not installed here ({error}); install it or use sdpa") from error


def use_attention(transformer: "UniAVGenTransformer", attention: AttentionKernel) -> None:
    """Sets the kernel of every self-attention.

    Text attention stays with torch: it is 1 % of the FLOPs and may need a mask, which most kernels do not take.
    Interactions always call torch themselves.
    """
    for block in transformer.blocks:
        for branch in (block.video, block.audio):
            set_attention_backend(branch.attn1, _BACKENDS[attention])


def compile_blocks(transformer: "UniAVGenTransformer") -> None:
    """Compiles the blocks in place, at their first run: one graph for those with an interaction, one for the others.

    A new image size, gate or batch compiles again.
    """
    transformer.compile_repeated_blocks()
