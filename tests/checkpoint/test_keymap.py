"""Key maps: every name finds its place, in both directions, with the right shape."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from golden import published_shapes
from transformers import UMT5EncoderModel

from uniavgen.checkpoint.codec_keymap import UMT5_ORIGINAL, vae_map
from uniavgen.checkpoint.keymap import (
    WAN_DIFFUSERS,
    WAN_ORIGINAL,
    WAN_SMALL_DIFFUSERS,
    WAN_SMALL_ORIGINAL,
    KeyMap,
    KeyRule,
    Shape,
    release_map,
)
from uniavgen.checkpoint.sizes import umt5_config, vae_shape
from uniavgen.config import load
from uniavgen.errors import CheckpointError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer


def shapes(module: torch.nn.Module) -> dict[str, Shape]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def base() -> dict[str, Shape]:
    with torch.device("meta"):
        return shapes(UniAVGenTransformer.from_settings(load(TransformerConfig, ["base/model"])))


def check_both_ways(keymap: KeyMap, theirs: dict[str, Shape], ours: dict[str, Shape]) -> dict[str, str]:
    places = keymap.match(theirs, ours)
    assert all(keymap.to_source(name) == source for name, source in places.items())
    assert all(keymap.to_target(there) == name for name, there in places.items())
    return places


def test_release_fills_the_base_model(base: dict[str, Shape]) -> None:
    theirs = published_shapes("joint")
    places = check_both_ways(release_map(tuple(range(0, 30, 2))), theirs, base)
    assert places.keys() == base.keys()
    assert set(places.values()) == theirs.keys()
    assert len(theirs) == 2036


def test_release_umt5_fills_transformers_encoder() -> None:
    theirs = published_shapes("umt5")
    with torch.device("meta"):
        ours = shapes(UMT5EncoderModel(umt5_config(theirs)))
    places = check_both_ways(UMT5_ORIGINAL, theirs, ours)
    assert places.keys() | set(UMT5_ORIGINAL.tied) == ours.keys() | set(UMT5_ORIGINAL.tied)
    assert set(places.values()) == theirs.keys()


def test_release_vae_fills_diffusers_autoencoder() -> None:
    theirs = published_shapes("vae")
    with torch.device("meta"):
        vae = vae_shape(theirs).build()
    places = check_both_ways(vae_map(), theirs, shapes(vae))
    assert places.keys() == shapes(vae).keys()
    assert set(places.values()) == theirs.keys()


def test_wan_in_diffusers_layout_fills_the_video_branch(base: dict[str, Shape]) -> None:
    with torch.device("meta"):
        wan = WanTransformer3DModel(
            num_attention_heads=24, in_channels=48, out_channels=48, ffn_dim=14336, num_layers=30
        )
    places = check_both_ways(WAN_DIFFUSERS, shapes(wan), base)
    assert len(places) == 825
    assert places.keys() == {n for n in base if n.startswith("video_stem.") or ".video." in n}


def test_wan_in_original_layout_names_the_same_parameters(base: dict[str, Shape]) -> None:
    theirs = {WAN_ORIGINAL.to_source(name): shape for name, shape in base.items()}
    del theirs[None]
    assert len(theirs) == 825
    assert {"text_embedding.0.weight", "head.modulation", "blocks.29.cross_attn.norm_k.weight"} <= theirs.keys()
    assert len(check_both_ways(WAN_ORIGINAL, theirs, base)) == 825


def test_small_wan_fills_the_audio_branch_where_shapes_agree(base: dict[str, Shape]) -> None:
    blocks = {f"blocks.{i}.self_attn.q.weight": (1536, 1536) for i in range(30)}
    theirs = {WAN_SMALL_ORIGINAL.to_source(name): shape for name, shape in base.items()} | blocks
    theirs.pop(None)
    theirs |= {"patch_embedding.weight": (1536, 16, 1, 2, 2), "text_embedding.0.weight": (1536, 4096)}
    places = WAN_SMALL_ORIGINAL.match(theirs, base)
    assert all(name.startswith("audio_stem.") or ".audio." in name for name in places)
    assert "audio_stem.proj_out.weight" not in places


def test_small_wan_in_diffusers_layout_fills_the_same_parameters(base: dict[str, Shape]) -> None:
    with torch.device("meta"):
        wan = WanTransformer3DModel(
            num_attention_heads=12, in_channels=16, out_channels=16, ffn_dim=8960, num_layers=30
        )
    places = check_both_ways(WAN_SMALL_DIFFUSERS, shapes(wan), base)
    assert places.keys() == {name for name in base if WAN_SMALL_ORIGINAL.to_source(name) is not None}


def test_interactions_stand_after_the_blocks_of_the_list() -> None:
    keymap = release_map((1, 4))
    assert keymap.to_target("a2v_blocks.1.q.weight") == "blocks.4.interaction.a2v.to_q.weight"
    assert keymap.to_source("blocks.1.interaction.face_mask.proj.bias") == "a2v_blocks.0.mask_head.head.bias"
    assert keymap.to_target("a2v_blocks.2.q.weight") is None


def test_keymap_row_must_be_unique_for_a_name() -> None:
    keymap = KeyMap("two ways", (KeyRule("a.{rest}", "b.{rest}"), KeyRule("a.c", "d"), KeyRule("e", "d")))
    assert keymap.to_target("a.d") == "b.d"
    assert keymap.to_target("a.c") is None
    with pytest.raises(CheckpointError, match="matches 2 rows"):
        keymap.to_source("d")


def test_keymap_error_lists_unknown_missing_and_misshapen_names() -> None:
    keymap = KeyMap("a toy", (KeyRule("theirs.{i}", "ours.{i}"),))
    with pytest.raises(CheckpointError) as error:
        keymap.match(
            {"theirs.0": (2,), "theirs.1": (3,), "foreign": (1,)}, {"ours.0": (2,), "ours.1": (4,), "ours.2": (1,)}
        )
    text = str(error.value)
    assert "1 unknown: foreign" in text
    assert "1 missing: theirs.2" in text
    assert "theirs.1 is [3] instead of [4]" in text
