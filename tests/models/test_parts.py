"""Every parameter of the transformer belongs to the part that its place says."""

import pytest
import torch
from peft import LoraConfig

from uniavgen.config import load
from uniavgen.models.config import TransformerConfig
from uniavgen.models.parts import Part, parameters_by_part, part_of
from uniavgen.models.transformer import UniAVGenTransformer


def transformer(preset: str) -> UniAVGenTransformer:
    with torch.device("meta"):
        return UniAVGenTransformer.from_settings(load(TransformerConfig, [preset]))


@pytest.mark.parametrize("preset", ["tiny/model", "nano/model", "base/model"])
def test_parts_hold_every_parameter_once(preset: str):
    model = transformer(preset)
    parts = parameters_by_part(model)
    assert {*parts} == {*Part}
    names = [name for members in parts.values() for name in members]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("video_stem.condition_embedder.text_embedder.linear_1.weight", Part.VIDEO),
        ("blocks.12.video.attn2.to_k.bias", Part.VIDEO),
        ("audio_stem.padding", Part.AUDIO),
        ("blocks.2.audio", Part.AUDIO),
        ("audio_stem.speech_encoder.blocks.0.pwconv1.weight", Part.SPEECH_TEXT),
        ("audio_stem.speech_proj.weight", Part.SPEECH_TEXT),
        ("blocks.0.interaction.a2v.to_q.weight", Part.A2V),
        ("blocks.0.interaction.v2a.norm_k.weight", Part.V2A),
        ("blocks.0.interaction.face_mask.scale_shift_table", Part.FACE_MASK),
        ("blocks.0", None),
        ("audio_stems.padding", None),
    ],
)
def test_part_follows_from_the_place_of_a_module(name: str, part: Part | None):
    assert part_of(name) is part


def test_part_of_an_adapter_is_that_of_the_layer_it_adapts():
    model = UniAVGenTransformer.from_settings(load(TransformerConfig, ["tiny/model"]))
    before = {part: len(members) for part, members in parameters_by_part(model).items()}
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    after = {part: len(members) for part, members in parameters_by_part(model).items()}
    blocks, interactions = len(model.blocks), sum(block.interaction is not None for block in model.blocks)
    assert {part: after[part] - before[part] for part in Part} == {
        Part.VIDEO: 2 * 2 * blocks,
        Part.AUDIO: 2 * 2 * blocks,
        Part.A2V: 2 * interactions,
        Part.V2A: 2 * interactions,
        Part.FACE_MASK: 0,
        Part.SPEECH_TEXT: 0,
    }
