"""Every preset is read by the class that owns it, strictly, and written back to the same value."""

import pytest

from uniavgen.config import Config, dump, load, parse, preset_names
from uniavgen.data_engine.rules import Rules
from uniavgen.models.config import TransformerConfig
from uniavgen.training.codecs.caption import CaptionTrainConfig
from uniavgen.training.codecs.video_vae import VideoVAETrainConfig
from uniavgen.training.codecs.vocoder import VocoderTrainConfig
from uniavgen.training.config import TrainConfig

OWNERS: dict[str, type[Config]] = {
    "model": TransformerConfig,
    "stage1": TrainConfig,
    "stage2": TrainConfig,
    "stage3": TrainConfig,
    "stage4": TrainConfig,
    "lora": TrainConfig,
    "lora-24gb": TrainConfig,
    "video_vae": VideoVAETrainConfig,
    "video_vae_mouths": VideoVAETrainConfig,
    "vocoder": VocoderTrainConfig,
    "caption": CaptionTrainConfig,
    "rules": Rules,
}
PARTS = {"nano/data"}
"""Presets that others extend and that are no whole settings by themselves."""


@pytest.mark.parametrize("name", sorted({*preset_names()} - PARTS))
def test_preset_parses_and_comes_back(name):
    owner = TrainConfig if name.startswith("ablations/") else OWNERS[name.rpartition("/")[2]]
    settings = load(owner, [name])
    assert parse(owner, dump(settings)) == settings
