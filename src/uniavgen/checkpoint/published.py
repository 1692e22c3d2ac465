"""The published weights that can be converted, each as a short function: a folder in, parts of a model out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from uniavgen.checkpoint.keymap import (
    WAN_DIFFUSERS,
    WAN_ORIGINAL,
    WAN_SMALL_DIFFUSERS,
    WAN_SMALL_ORIGINAL,
    KeyMap,
    release_map,
)
from uniavgen.checkpoint.partial_init import PARTIAL_INIT_STEM
from uniavgen.checkpoint.parts import (
    TOKENIZER_FOLDER,
    UMT5_FILE,
    VAE_FILE,
    VOCODER_FOLDER,
    Component,
    diffusers_config,
    match_tensors,
    parameter_shapes,
    saved_tokenizer,
    text_encoder_component,
    tokenizer_component,
    vae_component,
    vocoder_component,
)
from uniavgen.checkpoint.sizes import SourceConfig, release_settings, wan_audio_settings, wan_video_settings
from uniavgen.checkpoint.stores import StoredWeights, find_weights, read_json
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import CheckpointError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer

STEM: Final = "diffusion_pytorch_model"
_CODECS: Final = (VAE_FILE, UMT5_FILE, f"{TOKENIZER_FOLDER}/*")


@dataclass(frozen=True)
class PublishedModel:
    """Published weights of one kind."""

    title: str
    needed: tuple[str, ...]
    """Patterns of the files to fetch from the hub."""
    is_model: bool
    """Whether all parts of a model are there; otherwise they are a start for training."""


RELEASE, WAN_VIDEO, WAN_AUDIO = "release", "wan2.2-ti2v-5b", "wan2.1-t2v-1.3b"
KINDS: Final = {
    RELEASE: PublishedModel("the authors' release", ("config.json", f"{STEM}*", *_CODECS, f"{VOCODER_FOLDER}/*"), True),
    WAN_VIDEO: PublishedModel("Wan2.2-TI2V-5B", ("config.json", f"{STEM}*", "transformer/*", *_CODECS), False),
    WAN_AUDIO: PublishedModel("Wan2.1-T2V-1.3B", ("config.json", f"{STEM}*", "transformer/*"), False),
}


def release_components(folder: Path, symbols: SpeechSymbols, dtype: torch.dtype | None = None) -> list[Component]:
    """Every part of the authors' release; nothing but headers is read.

    symbols: from the vocabulary file, which is not in that folder.
    dtype: of transformer and caption encoder where it is not that of the source; the decoders keep theirs.
    Raises CheckpointError for what is missing, damaged or foreign.
    """
    weights = find_weights(folder, STEM, "the joint model")
    settings = release_settings(weights.shapes, _described(folder))
    _check_vocabulary(symbols, settings)
    keymap = release_map(settings.interaction.layer_list(settings.num_layers))
    with torch.device("meta"):
        module = UniAVGenTransformer.from_settings(settings)
    transformer = Component(
        name="transformer",
        module=module,
        settings=(diffusers_config("transformer", module),),
        tensors=match_tensors(weights, keymap, parameter_shapes(module), dtype),
    )
    text_encoder = text_encoder_component(folder, dtype)
    return [
        transformer,
        vae_component(folder),
        text_encoder,
        tokenizer_component(folder, text_encoder.module.config.vocab_size),
        Component(name="speech_tokenizer", module=symbols, settings=saved_tokenizer("speech_tokenizer", symbols)),
        vocoder_component(folder),
    ]


def wan_components(folder: Path, kind: str, dtype: torch.dtype | None = None) -> list[Component]:
    """A start for training: one branch's weights, and the codecs that lie beside them in Wan's own layout.

    Raises CheckpointError for what is missing, damaged or foreign.
    """
    inner = folder / "transformer" if (folder / "transformer").is_dir() else folder
    weights = find_weights(inner, STEM, KINDS[kind].title)
    keymap = _wan_map(weights, kind)
    build = wan_video_settings if kind == WAN_VIDEO else wan_audio_settings
    settings = build(weights.shapes, keymap, _described(inner))
    with torch.device("meta"):
        module = UniAVGenTransformer.from_settings(settings)
    start = Component(
        name="",
        module=module,
        settings=(),
        tensors=match_tensors(weights, keymap, parameter_shapes(module), dtype),
        stem=PARTIAL_INIT_STEM,
    )
    if kind == WAN_AUDIO or not (folder / VAE_FILE).is_file():
        return [start]
    text_encoder = text_encoder_component(folder, dtype)
    vocabulary = text_encoder.module.config.vocab_size
    return [start, vae_component(folder), text_encoder, tokenizer_component(folder, vocabulary)]


def _described(folder: Path) -> SourceConfig:
    file = folder / "config.json"
    return SourceConfig.of(read_json(file), str(file))


def _wan_map(weights: StoredWeights, kind: str) -> KeyMap:
    is_diffusers = any(name.startswith("condition_embedder.") for name in weights.tensors)
    if kind == WAN_VIDEO:
        return WAN_DIFFUSERS if is_diffusers else WAN_ORIGINAL
    return WAN_SMALL_DIFFUSERS if is_diffusers else WAN_SMALL_ORIGINAL


def _check_vocabulary(symbols: SpeechSymbols, settings: TransformerConfig) -> None:
    given, known = len(symbols.symbols()), settings.audio.speech.num_symbols
    if given != known:
        raise CheckpointError(
            f"the vocabulary has {given} symbols, the model's speech embedding has {known + 1} rows for {known} and a "
            "filler; give the vocab.txt that came with these weights"
        )
