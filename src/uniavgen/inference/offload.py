"""Where the components of a model lie while a clip is generated, and in what precision: a table of modes.

`memory` predicts how much memory a mode needs; this module applies it, with the hooks of diffusers.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from uniavgen.errors import ConfigError
from uniavgen.models.diffusers_compat import cancel_offloading_outside_blocks
from uniavgen.models.transformer import UniAVGenTransformer

OFFLOAD_DEVICE = torch.device("cpu")
"""Where components are that do not work."""


class OffloadStrategy(StrEnum):
    """Which components lie on the computing device."""

    NONE = "all"
    MODEL_OFFLOAD = "turns"
    """One component at a time; the others wait on the CPU."""
    GROUP_OFFLOAD = "streamed"
    """As MODEL_OFFLOAD, and of transformer and text encoder only the block that works and the next one."""


class WeightStorage(StrEnum):
    """How the transformer's large matrices are stored; they compute in the precision in which they were loaded."""

    AS_LOADED = "as loaded"
    FP8 = "fp8"
    """float8 e4m3, cast to the working precision layer by layer."""
    INT8 = "int8"
    """One byte per weight and one scale per row; needs torchao."""


@dataclass(frozen=True, kw_only=True)
class OffloadMode:
    """One row of OFFLOAD_MODES."""

    name: str
    strategy: OffloadStrategy
    weights: WeightStorage = WeightStorage.AS_LOADED
    is_automatic: bool = True
    """Whether `MemoryPlanner` may choose it; else it is used only where it is named."""
    summary: str


OFFLOAD_MODES: dict[str, OffloadMode] = {
    mode.name: mode
    for mode in (
        OffloadMode(name="resident", strategy=OffloadStrategy.NONE, summary="all parts stay on the device"),
        OffloadMode(
            name="turns",
            strategy=OffloadStrategy.MODEL_OFFLOAD,
            summary="text encoder, transformer, video autoencoder and vocoder are on the device in turn",
        ),
        OffloadMode(
            name="streamed-fp8",
            strategy=OffloadStrategy.GROUP_OFFLOAD,
            weights=WeightStorage.FP8,
            summary="blocks are streamed to the device one by one, stored in fp8, which changes the clip a little",
        ),
        OffloadMode(
            name="streamed",
            strategy=OffloadStrategy.GROUP_OFFLOAD,
            is_automatic=False,
            summary="blocks are streamed to the device one by one; the same clip as resident",
        ),
        OffloadMode(
            name="streamed-int8",
            strategy=OffloadStrategy.GROUP_OFFLOAD,
            weights=WeightStorage.INT8,
            is_automatic=False,
            summary="blocks are streamed to the device one by one, stored in int8, which changes the clip a little",
        ),
    )
}
"""Automatic modes stand in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class OffloadConfig:
    """Settings of a pipeline that depend on memory. The default leaves the components where they are."""

    mode: OffloadMode = OFFLOAD_MODES["resident"]
    device: torch.device | None = None
    """The device that computes; None is where the components lie."""
    batch_passes: bool = False
    """Whether both guidance passes of a step run as one batch (`ClipVelocity`). On a CPU it gains nothing."""
    text_kv_fits: bool = True
    """Whether the device has room for the keys and values of both texts in every block."""
    encode_tile_px: int | None = None
    decode_tile_px: int | None = None
    """Side in pixels of the square tiles in which the autoencoder works (`VideoCodec`); None is the whole frame."""

    @property
    def cache_text_kv(self) -> bool:
        """Whether blocks project a text once instead of in every pass (`ClipVelocity`).

        Streamed blocks cannot, since their weights are on the device only while they run.
        """
        return self.text_kv_fits and self.mode.strategy is not OffloadStrategy.GROUP_OFFLOAD


def offload_mode(name: str) -> OffloadMode:
    """Returns the mode of a name. Raises ConfigError for an unknown name or where its package is missing."""
    if name not in OFFLOAD_MODES:
        raise ConfigError(f"there is no mode '{name}'; use one of {', '.join(OFFLOAD_MODES)}")
    if OFFLOAD_MODES[name].weights is WeightStorage.INT8 and find_spec("torchao") is None:
        raise ConfigError(
            f"the mode '{name}' needs torchao, which is missing; pip install 'uniavgen[quant]', or use streamed-fp8"
        )
    return OFFLOAD_MODES[name]


def apply_offload(components: Mapping[str, Any], offload: OffloadConfig) -> None:
    """Applies a mode to the components of a pipeline that was loaded on the CPU, in place, once per pipeline.

    Components that are no modules (tokenizers) are left alone. Raises ConfigError for a config without a device.
    """
    device = offload.device
    if device is None:
        raise ConfigError("offloading needs the device that computes; give it as `device`")
    transformer: UniAVGenTransformer = components["transformer"]
    quantize(transformer, offload.mode.weights)
    match offload.mode.strategy:
        case OffloadStrategy.NONE:
            _move(components.values(), device)
        case OffloadStrategy.MODEL_OFFLOAD:
            _move(components.values(), OFFLOAD_DEVICE)
        case OffloadStrategy.GROUP_OFFLOAD:
            _group_offload_transformer(transformer, device)
            _group_offload(components["text_encoder"].encoder, device)


def quantize(transformer: UniAVGenTransformer, weights: WeightStorage) -> None:
    """Stores the matrices of the blocks in fewer bytes, in place."""
    match weights:
        case WeightStorage.AS_LOADED:
            pass
        case WeightStorage.FP8:
            compute_dtype = transformer.blocks[0].video.attn1.to_q.weight.dtype
            transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute_dtype)
        case WeightStorage.INT8:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

            quantize_(transformer.blocks, Int8WeightOnlyConfig())


@contextmanager
def on_device(offload: OffloadConfig, **components: Any) -> Iterator[None]:
    """Keeps whole components, given by name, on the computing device while the context is open.

    Nothing is moved where the mode leaves them there anyway, or streams their blocks.
    """
    moved = [part for name, part in components.items() if name in _ONLOADED_AS_A_WHOLE[offload.mode.strategy]]
    _move(moved, offload.device)
    try:
        yield
    finally:
        _move(moved, OFFLOAD_DEVICE)


_ONLOADED_AS_A_WHOLE: dict[OffloadStrategy, tuple[str, ...]] = {
    OffloadStrategy.NONE: (),
    OffloadStrategy.MODEL_OFFLOAD: ("text_encoder", "transformer", "vae", "vocoder"),
    OffloadStrategy.GROUP_OFFLOAD: ("vae", "vocoder"),
}


def _move(components: Iterable[Any], device: torch.device | None) -> None:
    for component in components:
        if isinstance(component, nn.Module):
            component.to(device)


def _group_offload_transformer(transformer: UniAVGenTransformer, device: torch.device) -> None:
    """Streams the blocks; the stems stay on the device, since they encode texts outside of `forward`."""
    _group_offload(transformer, device)
    cancel_offloading_outside_blocks(transformer)
    for stem in (transformer.video_stem, transformer.audio_stem):
        stem.to(device)


def _group_offload(model: nn.Module, device: torch.device) -> None:
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=OFFLOAD_DEVICE,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
