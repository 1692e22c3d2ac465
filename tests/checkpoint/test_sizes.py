"""Sizes follow from shapes: the published lists give the paper's model, and any other sizes come back."""

from dataclasses import replace

import pytest
import torch
from golden import published_shapes
from made_up import DESCRIBED, SETTINGS, VAE, theirs

from uniavgen.checkpoint.codec_keymap import vae_map
from uniavgen.checkpoint.components import parameter_shapes
from uniavgen.checkpoint.keymap import WAN_DIFFUSERS, WAN_ORIGINAL, WAN_SMALL_ORIGINAL, Shape, release_map
from uniavgen.checkpoint.sizes import (
    SourceConfig,
    release_settings,
    umt5_config,
    vae_shape,
    wan_audio_settings,
    wan_video_settings,
)
from uniavgen.codecs.video_vae import VideoVaeShape
from uniavgen.config import load
from uniavgen.errors import CheckpointError, UniAVGenError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.interaction.config import InteractionConfig
from uniavgen.models.transformer import UniAVGenTransformer

HEADS = {"num_heads": 2, "audio_num_heads": 1, "text_len": 9}


def released_shapes(settings: TransformerConfig) -> dict[str, Shape]:
    keymap = release_map(settings.interaction.layer_list(settings.num_layers))
    return {keymap.to_source(name): shape for name, shape in our_shapes(settings).items()}


def our_shapes(settings: TransformerConfig) -> dict[str, Shape]:
    with torch.device("meta"):
        return parameter_shapes(UniAVGenTransformer.from_settings(settings))


def test_published_names_give_the_base_preset() -> None:
    assert release_settings(published_shapes("joint")) == load(TransformerConfig, ["base/model"])


def test_published_codecs_give_umt5_xxl_and_wans_vae() -> None:
    config = umt5_config(published_shapes("umt5"))
    assert (config.vocab_size, config.d_model, config.d_kv, config.d_ff) == (256384, 4096, 64, 10240)
    assert (config.num_layers, config.num_heads, config.is_gated_act) == (24, 64, True)
    assert vae_shape(published_shapes("vae")) == VideoVaeShape(
        width=160,
        decoder_width=256,
        latent_channels=48,
        width_factors=(1, 2, 4, 4),
        blocks_per_level=2,
        temporal_levels=(False, True, True),
    )


@pytest.mark.parametrize("layers", ["interleaved", "all", (1, 2)])
def test_settings_come_back_from_shapes(layers) -> None:
    settings = replace(SETTINGS, interaction=InteractionConfig(layers=layers))
    described = DESCRIBED | ({"interaction_layers": list(layers)} if isinstance(layers, tuple) else {})
    assert release_settings(released_shapes(settings), SourceConfig.of(described, "a test")) == settings


def test_autoencoder_comes_back_from_shapes() -> None:
    shape = replace(VAE, latent_channels=5, width_factors=(1, 2, 4, 4), temporal_levels=(True, False, True))
    weights = theirs(shape.build(), vae_map(shape.blocks_per_level))
    assert vae_shape({name: tuple(value.shape) for name, value in weights.items()}) == shape


@pytest.mark.parametrize("keymap", [WAN_ORIGINAL, WAN_DIFFUSERS], ids=["original", "diffusers"])
def test_video_branch_comes_back_from_a_wan_model(keymap) -> None:
    wan = {keymap.to_source(name): shape for name, shape in our_shapes(SETTINGS).items()}
    wan.pop(None)
    settings = wan_video_settings(wan, keymap, SourceConfig(num_heads=2, text_len=9))
    assert (settings.num_layers, settings.video) == (SETTINGS.num_layers, SETTINGS.video)


def test_audio_branch_comes_back_from_a_wan_model() -> None:
    wan = {WAN_SMALL_ORIGINAL.to_source(name): shape for name, shape in our_shapes(SETTINGS).items()}
    wan.pop(None)
    settings = wan_audio_settings(
        wan, WAN_SMALL_ORIGINAL, SourceConfig.of({"num_attention_heads": 1, "x": 2}, "a test")
    )
    assert settings.audio == replace(SETTINGS.audio, speech=settings.audio.speech)


@pytest.mark.parametrize(
    ("change", "described", "words"),
    [
        ({}, {}, "width of 12 cannot be split into heads of 128; give num_heads"),
        ({}, HEADS | {"num_heads": 5}, "width of 12 cannot be split into 5 heads"),
        ({}, HEADS | {"num_heads": "two"}, "a test: num_heads: should be a valid integer"),
        (
            {"a2v_blocks.2.q.weight": (12, 12)},
            HEADS | {"interaction_layers": [0, 1]},
            "3 interactions for 3 blocks",
        ),
        ({}, HEADS | {"interaction_layers": [0, 1, 2]}, "2 interactions for 3 blocks"),
        ({"patch_embedding.weight": None}, HEADS, "1 missing: patch_embedding.weight"),
        ({"patch_embedding.weight": (12, 48)}, HEADS, r"patch_embedding.weight is \[12, 48\], expected 5 axes"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change, described, words) -> None:
    shapes = released_shapes(SETTINGS) | change
    with pytest.raises(UniAVGenError, match=words):
        release_settings(
            {name: shape for name, shape in shapes.items() if shape is not None}, SourceConfig.of(described, "a test")
        )


def test_weights_of_something_else_are_an_error() -> None:
    with pytest.raises(CheckpointError, match="other weights than expected"):
        release_settings({"encoder.conv1.weight": (4, 12, 3, 3, 3)})
