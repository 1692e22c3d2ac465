"""Where the parts of a model lie while a clip is made, and in what precision: a few modes as a table.

What a mode takes is predicted by `memory`; here it is applied, with diffusers' own means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from uniavgen.errors import ConfigError

if TYPE_CHECKING:
    from uniavgen.inference.pipeline import UniAVGenPipeline
    from uniavgen.models.transformer import UniAVGenTransformer

OFFLOAD_DEVICE = torch.device("cpu")
"""Where parts wait."""


class OffloadStrategy(StrEnum):
    """Which parts lie on the device."""

    NONE = "all"
    MODEL_OFFLOAD = "turns"
    """One part at a time, the others wait on the CPU."""
    GROUP_OFFLOAD = "streamed"
    """As in turns, and of the transformer and the text encoder only the block that works and the one after it."""


class WeightStorage(StrEnum):
    """How the transformer's large matrices are stored; they compute in the precision that they were loaded in."""

    AS_LOADED = "as loaded"
    FP8 = "fp8"
    """float8 e4m3, cast layer by layer."""
    INT8 = "int8"
    """A byte a weight and a scale a row; needs torchao."""


@dataclass(frozen=True, kw_only=True)
class OffloadMode:
    """One row of the table."""

    name: str
    strategy: OffloadStrategy
    weights: WeightStorage = WeightStorage.AS_LOADED
    is_automatic: bool = True
    """Whether it may be chosen by what fits; else it is taken where it is asked for."""
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
"""Those that are chosen by themselves stand in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class OffloadConfig:
    """All that memory decides about a pipeline. The default leaves the parts where they are."""

    mode: OffloadMode = OFFLOAD_MODES["resident"]
    device: torch.device | None = None
    """Where the work is done; None is where the parts lie."""
    batch_passes: bool = False
    """Whether both guidance passes of a step run as one batch (`ClipVelocity`). On a CPU it gains nothing."""
    text_kv_fits: bool = True
    """Whether the device has room for the keys and values that every block makes of both texts."""
    encode_tile_px: int | None = None
    decode_tile_px: int | None = None
    """Side of the squares in which the autoencoder works (`VideoCodec`); None is the whole picture."""

    @property
    def cache_text_kv(self) -> bool:
        """Whether blocks project a text once and not in every pass (`ClipVelocity`). Streamed blocks cannot, since
        their weights are there only while they run."""
        return self.text_kv_fits and self.mode.strategy is not OffloadStrategy.GROUP_OFFLOAD


def offload_mode(name: str) -> OffloadMode:
    """A mode that can be used here; ConfigError for another name or where its package is missing."""
    if name not in OFFLOAD_MODES:
        raise ConfigError(f"there is no mode '{name}'; use one of {', '.join(OFFLOAD_MODES)}")
    if OFFLOAD_MODES[name].weights is WeightStorage.INT8 and find_spec("torchao") is None:
        raise ConfigError(
            f"the mode '{name}' needs torchao, which is missing; pip install 'uniavgen[quant]', or use streamed-fp8"
        )
    return OFFLOAD_MODES[name]


def apply_offload(pipeline: "UniAVGenPipeline", offload: OffloadConfig) -> "UniAVGenPipeline":
    """Bring a pipeline that was loaded on the CPU into its mode. A pipeline is placed once."""
    device = offload.device
    if device is None:
        raise ConfigError("a placement needs the device that the work is done on")
    quantize(pipeline.transformer, offload.mode.weights)
    match offload.mode.strategy:
        case OffloadStrategy.NONE:
            pipeline.to(device)
        case OffloadStrategy.MODEL_OFFLOAD:
            pipeline.to(OFFLOAD_DEVICE)
        case OffloadStrategy.GROUP_OFFLOAD:
            _stream_transformer(pipeline.transformer, device)
            _stream(pipeline.text_encoder.encoder, device)
    pipeline.offload = offload
    return pipeline


def quantize(transformer: "UniAVGenTransformer", weights: WeightStorage) -> None:
    """Store the matrices of the blocks in less, where they lie."""
    match weights:
        case WeightStorage.AS_LOADED:
            pass
        case WeightStorage.FP8:
            computed_in = transformer.blocks[0].video.attn1.to_q.weight.dtype
            transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=computed_in)
        case WeightStorage.INT8:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

            quantize_(transformer.blocks, Int8WeightOnlyConfig())


@contextmanager
def on_device(pipeline: "UniAVGenPipeline", *names: str) -> Iterator[None]:
    """Parts that work now are on the device, and leave it afterwards where the mode says so."""
    parts = [getattr(pipeline, name) for name in names if name in _visitors(pipeline.offload.mode)]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    for module in modules:
        module.to(pipeline.offload.device)
    try:
        yield
    finally:
        for module in modules:
            module.to(OFFLOAD_DEVICE)


def _visitors(mode: OffloadMode) -> tuple[str, ...]:
    """Parts that come and go as a whole."""
    match mode.strategy:
        case OffloadStrategy.NONE:
            return ()
        case OffloadStrategy.MODEL_OFFLOAD:
            return ("text_encoder", "transformer", "vae", "vocoder")
        case OffloadStrategy.GROUP_OFFLOAD:
            return ("vae", "vocoder")


def _stream_transformer(transformer: "UniAVGenTransformer", device: torch.device) -> None:
    """Blocks come and go; stems stay, since texts are encoded by them outside of `forward`."""
    _stream(transformer, device)
    # diffusers puts everything that is no block into one group of the whole model, fetched for its `forward` only.
    rest = transformer._diffusers_hook.get_hook("group_offloading").group
    rest.modules, rest.parameters, rest.buffers = [], [], []
    for stem in (transformer.video_stem, transformer.audio_stem):
        stem.to(device)


def _stream(model: nn.Module, device: torch.device) -> None:
    apply_group_offloading(
        model,
        onload_device=device,
        offload_device=OFFLOAD_DEVICE,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
