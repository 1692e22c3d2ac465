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

HOME = torch.device("cpu")
"""Where parts wait."""


class Residency(StrEnum):
    """Which parts lie on the device."""

    ALL = "all"
    TURNS = "turns"
    """One part at a time, the others wait on the CPU."""
    STREAMED = "streamed"
    """As in turns, and of the transformer and the text encoder only the block that works and the one after it."""


class Weights(StrEnum):
    """How the transformer's large matrices are stored; they compute in the precision that they were loaded in."""

    AS_LOADED = "as loaded"
    FP8 = "fp8"
    """float8 e4m3, cast layer by layer."""
    INT8 = "int8"
    """A byte a weight and a scale a row; needs torchao."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One row of the table."""

    name: str
    residency: Residency
    weights: Weights = Weights.AS_LOADED
    is_automatic: bool = True
    """Whether it may be chosen by what fits; else it is taken where it is asked for."""
    summary: str


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode(name="resident", residency=Residency.ALL, summary="all parts stay on the device"),
        Mode(
            name="turns",
            residency=Residency.TURNS,
            summary="text encoder, transformer, video autoencoder and vocoder are on the device in turn",
        ),
        Mode(
            name="streamed-fp8",
            residency=Residency.STREAMED,
            weights=Weights.FP8,
            summary="blocks are streamed to the device one by one, stored in fp8, which changes the clip a little",
        ),
        Mode(
            name="streamed",
            residency=Residency.STREAMED,
            is_automatic=False,
            summary="blocks are streamed to the device one by one; the same clip as resident",
        ),
        Mode(
            name="streamed-int8",
            residency=Residency.STREAMED,
            weights=Weights.INT8,
            is_automatic=False,
            summary="blocks are streamed to the device one by one, stored in int8, which changes the clip a little",
        ),
    )
}
"""Those that are chosen by themselves stand in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All that memory decides about a pipeline. The default leaves the parts where they are."""

    mode: Mode = MODES["resident"]
    device: torch.device | None = None
    """Where the work is done; None is where the parts lie."""
    batch_passes: bool = False
    """Whether both guidance passes of a step run as one batch (`ClipVelocity`). On a CPU it gains nothing."""
    room_for_text: bool = True
    """Whether the device has room for the keys and values that every block makes of both texts."""
    encode_tile_px: int | None = None
    decode_tile_px: int | None = None
    """Side of the squares in which the autoencoder works (`VideoCodec`); None is the whole picture."""

    @property
    def keep_text(self) -> bool:
        """Whether blocks project a text once and not in every pass (`ClipVelocity`). Streamed blocks cannot, since
        their weights are there only while they run."""
        return self.room_for_text and self.mode.residency is not Residency.STREAMED


def mode_named(name: str) -> Mode:
    """A mode that can be used here; ConfigError for another name or where its package is missing."""
    if name not in MODES:
        raise ConfigError(f"there is no mode '{name}'; use one of {', '.join(MODES)}")
    if MODES[name].weights is Weights.INT8 and find_spec("torchao") is None:
        raise ConfigError(
            f"the mode '{name}' needs torchao, which is missing; pip install 'uniavgen[quant]', or use streamed-fp8"
        )
    return MODES[name]


def place(pipeline: "UniAVGenPipeline", placement: Placement) -> "UniAVGenPipeline":
    """Bring a pipeline that was loaded on the CPU into its mode. A pipeline is placed once."""
    device = placement.device
    if device is None:
        raise ConfigError("a placement needs the device that the work is done on")
    store(pipeline.transformer, placement.mode.weights)
    match placement.mode.residency:
        case Residency.ALL:
            pipeline.to(device)
        case Residency.TURNS:
            pipeline.to(HOME)
        case Residency.STREAMED:
            _stream_transformer(pipeline.transformer, device)
            _stream(pipeline.text_encoder.encoder, device)
    pipeline.placement = placement
    return pipeline


def store(transformer: "UniAVGenTransformer", weights: Weights) -> None:
    """Store the matrices of the blocks in less, where they lie."""
    match weights:
        case Weights.AS_LOADED:
            pass
        case Weights.FP8:
            computed_in = transformer.blocks[0].video.attn1.to_q.weight.dtype
            transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=computed_in)
        case Weights.INT8:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

            quantize_(transformer.blocks, Int8WeightOnlyConfig())


@contextmanager
def on_device(pipeline: "UniAVGenPipeline", *names: str) -> Iterator[None]:
    """Parts that work now are on the device, and leave it afterwards where the mode says so."""
    parts = [getattr(pipeline, name) for name in names if name in _visitors(pipeline.placement.mode)]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    for module in modules:
        module.to(pipeline.placement.device)
    try:
        yield
    finally:
        for module in modules:
            module.to(HOME)


def _visitors(mode: Mode) -> tuple[str, ...]:
    """Parts that come and go as a whole."""
    match mode.residency:
        case Residency.ALL:
            return ()
        case Residency.TURNS:
            return ("text_encoder", "transformer", "vae", "vocoder")
        case Residency.STREAMED:
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
        offload_device=HOME,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
