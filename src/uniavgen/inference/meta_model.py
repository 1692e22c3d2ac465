"""The networks of a model without their weights: shapes and precisions from its configs alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from uniavgen.artifacts import first_line
from uniavgen.codecs.caption import MAX_TOKENS
from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.umt5 import UMT5Encoder, saved_dtype
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.codecs.vocoder import vocoder_class
from uniavgen.config import load, parse
from uniavgen.errors import CheckpointError
from uniavgen.inference.model_spec import read_config, saved_transformer_config
from uniavgen.inference.resize import ResizeRule, ResizeShortSide, parse_resize_rule
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.config import TransformerConfig
from uniavgen.models.diffusers_compat import is_kept_in_float32
from uniavgen.models.transformer import UniAVGenTransformer

META = torch.device("meta")
WAN_VAE = VideoVaeShape(width=160, decoder_width=256, latent_channels=48, blocks_per_level=2)
"""Wan2.2's video autoencoder. [release]"""
UMT5_XXL = {"vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64}
"""The base model's caption encoder. [release]"""
WORKING_DTYPE = torch.bfloat16
"""Precision of transformer and caption encoder on a GPU; the autoencoder and the vocoder keep float32.
[Wan, release]"""


@dataclass(frozen=True, kw_only=True)
class MetaModel:
    """The networks of a model on meta tensors, in evaluation; `transformer` and `text_encoder` in working precision."""

    transformer: UniAVGenTransformer
    vae: AutoencoderKLWan
    text_encoder: UMT5Encoder
    vocoder: Any
    caption_tokens: int
    resize_rule: ResizeRule
    sampling: SamplingConfig

    def __post_init__(self) -> None:
        for part in self.networks.values():
            part.eval()
        use_frame_convolutions(self.vae)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The components that have weights, by name."""
        named = {name: getattr(self, name) for name in ("text_encoder", "transformer", "vae", "vocoder")}
        return {name: part for name, part in named.items() if isinstance(part, nn.Module)}

    @property
    def pixels_of_token(self) -> int:
        """Side of a video token in pixels; height and width of a clip are multiples of it."""
        return self.vae.config["scale_factor_spatial"] * max(self.transformer.settings.video.patch[1:])


def base_meta_model(dtype: torch.dtype | None = WORKING_DTYPE) -> MetaModel:
    """Returns the networks of the paper's model; `dtype` as in `from_pretrained`, None is float32. [release]"""
    with META:
        parts = MetaModel(
            transformer=UniAVGenTransformer.from_settings(load(TransformerConfig, ["base/model"])),
            vae=WAN_VAE.build(),
            text_encoder=UMT5Encoder(**UMT5_XXL),
            vocoder=_bigvgan(),
            caption_tokens=MAX_TOKENS,
            resize_rule=ResizeShortSide(),
            sampling=SamplingConfig(),
        )
    return _in_dtype(parts, dtype)


def saved_meta_model(folder: Path, dtype: torch.dtype | None = WORKING_DTYPE) -> MetaModel:
    """Returns the networks of a saved pipeline, by its configs.

    Raises CheckpointError where one is missing or damaged. What configs may say is checked before, by `check_files`.
    """
    index = read_config(folder / "model_index.json", "picture_config", "sampling_config")
    tokenizer = read_config(folder / "tokenizer" / "tokenizer_config.json", "model_max_length")
    try:
        with META:
            parts = MetaModel(
                transformer=UniAVGenTransformer.from_settings(saved_transformer_config(folder)),
                vae=AutoencoderKLWan.from_config(read_config(folder / "vae" / "config.json")),
                text_encoder=_text_encoder(folder / "text_encoder"),
                vocoder=_vocoder(folder / "vocoder") if (index.get("vocoder") or [None])[0] else None,
                caption_tokens=min(int(tokenizer["model_max_length"]), MAX_TOKENS),
                resize_rule=parse_resize_rule(index["picture_config"]),
                sampling=parse(SamplingConfig, index["sampling_config"], origin="sampling_config"),
            )
    except (OSError, ValueError, RuntimeError, StrictDataclassError) as error:
        raise CheckpointError(
            f"the configs of {folder} are damaged ({first_line(error)}); copy or download it again"
        ) from error
    return _in_dtype(parts, dtype)


def _vocoder(folder: Path) -> nn.Module:
    config = read_config(folder / "config.json")
    cls: Any = vocoder_class(config)
    if not issubclass(cls, ConfigMixin):
        return _bigvgan(folder)
    vocoder: Any = cls.from_config(config)
    return vocoder


def _bigvgan(folder: Path | None = None) -> nn.Module:
    """Returns the vocoder of a folder, or the release's."""
    from transformers import Qwen2_5OmniToken2WavBigVGANModel
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniBigVGANConfig

    config = Qwen2_5OmniBigVGANConfig() if folder is None else Qwen2_5OmniBigVGANConfig.from_pretrained(folder)
    return Qwen2_5OmniToken2WavBigVGANModel(config)


def _text_encoder(folder: Path) -> UMT5Encoder:
    """Returns the caption encoder of a folder in the precision that its config names."""
    settings = read_config(folder / "config.json")
    encoder = UMT5Encoder.of_settings(settings)
    # diffusers' own `to` warns of layers that would stay in float32; this encoder has none.
    nn.Module.to(encoder, saved_dtype(settings))
    return encoder


def _in_dtype(parts: MetaModel, dtype: torch.dtype | None) -> MetaModel:
    """Returns networks in the precision in which `from_pretrained(dtype=...)` loads them.

    None is float32 for the transformer, and leaves the caption encoder as it was built.
    """
    if dtype is not None:
        nn.Module.to(parts.text_encoder, dtype)
    cast_like_diffusers(parts.transformer, dtype or torch.float32)
    return parts


def cast_like_diffusers(transformer: UniAVGenTransformer, dtype: torch.dtype) -> None:
    """Casts a transformer in place as diffusers does on loading in `dtype`: some parameters stay in float32."""
    for name, parameter in transformer.named_parameters():
        if not is_kept_in_float32(UniAVGenTransformer, name):
            parameter.data = parameter.data.to(dtype)
