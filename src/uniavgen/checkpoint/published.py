"""The published weights that can be converted, each as a short function: a folder or file in, components out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from uniavgen.artifacts import read_json
from uniavgen.checkpoint.components import (
    CODEC_NAMES,
    TOKENIZER_FOLDER,
    UMT5_FILE,
    VAE_FILE,
    VOCODER_FOLDER,
    Component,
    diffusers_config,
    match_tensors,
    saved_tokenizer,
    shapes_of,
    text_encoder_component,
    tokenizer_component,
    vae_component,
    vocoder_component,
)
from uniavgen.checkpoint.keymap import (
    WAN_DIFFUSERS,
    WAN_ORIGINAL,
    WAN_SMALL_DIFFUSERS,
    WAN_SMALL_ORIGINAL,
    KeyMap,
    release_map,
)
from uniavgen.checkpoint.partial_init import PARTIAL_INIT_STEM
from uniavgen.checkpoint.sizes import SourceConfig, release_settings, wan_audio_settings, wan_video_settings
from uniavgen.checkpoint.weight_shards import TRANSFORMER_STEM
from uniavgen.checkpoint.weights import Weights, find_weights, read_weights
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import CheckpointError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer

_WEIGHTS: Final = f"{TRANSFORMER_STEM}*"
_CODECS: Final = (VAE_FILE, UMT5_FILE, f"{TOKENIZER_FOLDER}/*")


@dataclass(frozen=True)
class PublishedModel:
    """Published weights of one kind."""

    title: str
    needed: tuple[str, ...]
    """Patterns of the files to fetch from the hub."""
    is_model: bool
    """Whether all components of a model are there; otherwise they are initial weights for training."""


RELEASE, WAN_VIDEO, WAN_AUDIO = "release", "wan2.2-ti2v-5b", "wan2.1-t2v-1.3b"
KINDS: Final = {
    RELEASE: PublishedModel("the authors' release", ("config.json", _WEIGHTS, *_CODECS, f"{VOCODER_FOLDER}/*"), True),
    WAN_VIDEO: PublishedModel("Wan2.2-TI2V-5B", ("config.json", _WEIGHTS, "transformer/*", *_CODECS), False),
    WAN_AUDIO: PublishedModel("Wan2.1-T2V-1.3B", ("config.json", _WEIGHTS, "transformer/*"), False),
}


def release_components(source: Path, symbols: SpeechSymbols, dtype: torch.dtype | None = None) -> list[Component]:
    """Returns every component of the authors' release; nothing but headers is read.

    source: its folder, or the file of the joint model with the codecs beside it.
    symbols: from the vocabulary file, which is not in that folder.
    dtype: of transformer and caption encoder where it is not that of the source; the decoders keep theirs.
    Raises CheckpointError for what is missing, damaged or foreign.
    """
    folder, weights = _transformer_weights(source, RELEASE)
    settings = release_settings(shapes_of(weights), _source_config(folder))
    _check_vocabulary(symbols, settings)
    keymap = release_map(settings.interaction.layer_list(settings.num_layers))
    with torch.device("meta"):
        module = UniAVGenTransformer.from_settings(settings)
    transformer = Component(
        name="transformer",
        module=module,
        settings=(diffusers_config("transformer", module),),
        tensors=match_tensors(weights, keymap, module, dtype),
    )
    return [
        transformer,
        *_wan_codecs(folder, dtype),
        Component(name="speech_tokenizer", module=symbols, settings=saved_tokenizer("speech_tokenizer", symbols)),
        vocoder_component(folder),
    ]


def wan_components(source: Path, kind: str, dtype: torch.dtype | None = None) -> list[Component]:
    """Returns initial weights for training: one branch, and the codecs that lie beside it in Wan's own layout.

    source: the folder of a Wan model, or the file of its transformer. Raises CheckpointError for what is missing,
    damaged or foreign.
    """
    folder, weights = _transformer_weights(source, kind)
    keymap = _wan_map(weights, kind)
    read_settings = wan_video_settings if kind == WAN_VIDEO else wan_audio_settings
    settings = read_settings(shapes_of(weights), keymap, _source_config(folder))
    with torch.device("meta"):
        module = UniAVGenTransformer.from_settings(settings)
    branch = Component(
        name="",
        module=module,
        settings=(),
        tensors=match_tensors(weights, keymap, module, dtype),
        stem=PARTIAL_INIT_STEM,
    )
    has_codecs = kind == WAN_VIDEO and source.is_dir() and any(source.glob(f"{Path(VAE_FILE).stem}.*"))
    return [branch, *(_wan_codecs(source, dtype) if has_codecs else ())]


def _transformer_weights(source: Path, kind: str) -> tuple[Path, Weights]:
    """Returns the folder of the transformer's config, and its weights."""
    title = "the joint model" if kind == RELEASE else KINDS[kind].title
    if not source.is_dir():
        return source.parent, read_weights(source)
    folder = source / "transformer" if kind != RELEASE and (source / "transformer").is_dir() else source
    return folder, find_weights(folder, title, f"{TRANSFORMER_STEM}.safetensors", ("*",), CODEC_NAMES)


def _wan_codecs(folder: Path, dtype: torch.dtype | None) -> list[Component]:
    text_encoder = text_encoder_component(folder, dtype)
    return [vae_component(folder), text_encoder, tokenizer_component(folder, text_encoder.module.config.vocab_size)]


def _source_config(folder: Path) -> SourceConfig:
    file = folder / "config.json"
    settings = read_json(file, CheckpointError, "copy or download it again") if file.exists() else {}
    return SourceConfig.of(settings, str(file))


def _wan_map(weights: Weights, kind: str) -> KeyMap:
    is_diffusers = any(name.startswith("condition_embedder.") for name in weights)
    if kind == WAN_VIDEO:
        return WAN_DIFFUSERS if is_diffusers else WAN_ORIGINAL
    return WAN_SMALL_DIFFUSERS if is_diffusers else WAN_SMALL_ORIGINAL


def _check_vocabulary(symbols: SpeechSymbols, settings: TransformerConfig) -> None:
    given, expected = len(symbols.symbols()), settings.audio.speech.num_symbols
    if given != expected:
        raise CheckpointError(
            f"the vocabulary has {given} symbols, the model's speech embedding has {expected + 1} rows for {expected} "
            "and a filler; give the vocab.txt that came with these weights"
        )
