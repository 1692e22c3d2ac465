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
    Part,
    diffusers_config,
    place,
    saved_tokenizer,
    shapes_of,
    text_encoder_part,
    tokenizer_part,
    vae_part,
    vocoder_part,
)
from uniavgen.checkpoint.sizes import Described, release_settings, wan_audio_settings, wan_video_settings
from uniavgen.checkpoint.stores import Weights, find_weights, read_json
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.errors import CheckpointError
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer

STEM: Final = "diffusion_pytorch_model"
_CODECS: Final = (VAE_FILE, UMT5_FILE, f"{TOKENIZER_FOLDER}/*")


@dataclass(frozen=True)
class Kind:
    """Published weights of one kind."""

    title: str
    needed: tuple[str, ...]
    """Patterns of the files to fetch from the hub."""
    is_model: bool
    """Whether all parts of a model are there; otherwise they are a start for training."""


RELEASE, WAN_VIDEO, WAN_AUDIO = "release", "wan2.2-ti2v-5b", "wan2.1-t2v-1.3b"
KINDS: Final = {
    RELEASE: Kind("the authors' release", ("config.json", f"{STEM}*", *_CODECS, f"{VOCODER_FOLDER}/*"), True),
    WAN_VIDEO: Kind("Wan2.2-TI2V-5B", ("config.json", f"{STEM}*", "transformer/*", *_CODECS), False),
    WAN_AUDIO: Kind("Wan2.1-T2V-1.3B", ("config.json", f"{STEM}*", "transformer/*"), False),
}


def release_parts(folder: Path, symbols: SpeechSymbols, dtype: torch.dtype | None = None) -> list[Part]:
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
    transformer = Part(
        name="transformer",
        component=module,
        settings=(diffusers_config("transformer", module),),
        tensors=place(weights, keymap, shapes_of(module), dtype),
    )
    text_encoder = text_encoder_part(folder, dtype)
    return [
        transformer,
        vae_part(folder),
        text_encoder,
        tokenizer_part(folder, text_encoder.component.config.vocab_size),
        Part(name="speech_tokenizer", component=symbols, settings=saved_tokenizer("speech_tokenizer", symbols)),
        vocoder_part(folder),
    ]


def wan_parts(folder: Path, kind: str, dtype: torch.dtype | None = None) -> list[Part]:
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
    start = Part(
        name="",
        component=module,
        settings=(),
        tensors=place(weights, keymap, shapes_of(module), dtype),
        stem=PARTIAL_INIT_STEM,
    )
    if kind == WAN_AUDIO or not (folder / VAE_FILE).is_file():
        return [start]
    text_encoder = text_encoder_part(folder, dtype)
    vocabulary = text_encoder.component.config.vocab_size
    return [start, vae_part(folder), text_encoder, tokenizer_part(folder, vocabulary)]


def _described(folder: Path) -> Described:
    file = folder / "config.json"
    return Described.of(read_json(file), str(file))


def _wan_map(weights: Weights, kind: str) -> KeyMap:
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
