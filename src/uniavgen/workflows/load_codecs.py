"""The codecs of a model folder, as `uniavgen train-codec` leaves them, and a pipeline of them around a transformer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLWan
from torch import nn

from uniavgen.artifacts import path_exists, read_json
from uniavgen.checkpoint.saved_model import COPY_AGAIN, check_component, check_files, load_component
from uniavgen.codecs.caption import CaptionEncoder
from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.tokenizer_file import CaptionTokenizer
from uniavgen.codecs.umt5 import UMT5Encoder
from uniavgen.codecs.vocoder import vocoder_class
from uniavgen.config import dump
from uniavgen.errors import CheckpointError
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.resize import ResizeRule
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.models.transformer import UniAVGenTransformer


@dataclass(frozen=True, kw_only=True)
class ModelCodecs:
    """Every component of a model but its transformer."""

    vae: AutoencoderKLWan
    text_encoder: UMT5Encoder
    tokenizer: CaptionTokenizer
    vocoder: nn.Module | None
    """A NanoVocoder, or the BigVGAN of transformers, whose import takes seconds; None stands for Griffin-Lim."""
    speech_tokenizer: SpeechSymbols

    @property
    def caption_encoder(self) -> CaptionEncoder:
        """Returns text encoder and tokenizer as one."""
        return CaptionEncoder(self.tokenizer, self.text_encoder)

    def build_pipeline(
        self, transformer: UniAVGenTransformer, resize_rule: ResizeRule, sampling: SamplingConfig | None = None
    ) -> UniAVGenPipeline:
        """Returns a pipeline that brings images to its size by `resize_rule`.

        `sampling` holds the defaults of its requests; None stands for the paper's.
        """
        return UniAVGenPipeline(
            transformer=transformer,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            speech_tokenizer=self.speech_tokenizer,
            vocoder=self.vocoder,
            picture_config=dump(resize_rule),
            sampling_config=dump(sampling or SamplingConfig()),
        )


def load_codecs(folder: Path, device: str = "cpu") -> ModelCodecs:
    """Loads the codecs in `folder`: its vocoder if there is one, and its speech symbols, else printable ASCII.

    Raises CheckpointError where one is missing or damaged.
    """
    for name in ("vae", "text_encoder", "tokenizer"):
        _check_folder(folder, name)
    check_files(folder)
    symbols, vocoder = folder / "speech_tokenizer", folder / "vocoder"
    return ModelCodecs(
        vae=_load_video_vae(folder).eval().to(device),
        text_encoder=load_component(folder / "text_encoder", UMT5Encoder.from_transformers).eval().to(device),
        tokenizer=CaptionTokenizer.from_pretrained(folder / "tokenizer"),
        vocoder=_load_vocoder(vocoder).eval().to(device) if vocoder.is_dir() else None,
        speech_tokenizer=SpeechSymbols.from_pretrained(symbols) if symbols.is_dir() else SpeechSymbols.of(),
    )


def load_video_vae(folder: Path) -> AutoencoderKLWan:
    """Loads the video autoencoder of a model folder; raises CheckpointError where it is missing or damaged."""
    _check_folder(folder, "vae")
    check_component(folder / "vae", "vae")
    return _load_video_vae(folder)


def _load_video_vae(folder: Path) -> AutoencoderKLWan:
    vae = load_component(folder / "vae", AutoencoderKLWan.from_pretrained)
    use_frame_convolutions(vae)
    return vae


def _check_folder(folder: Path, name: str) -> None:
    if not path_exists(folder / name) or not (folder / name).is_dir():
        raise CheckpointError(f"{folder} has no folder '{name}'; give a model folder, as train-codec leaves it")


def _load_vocoder(folder: Path) -> nn.Module:
    """Loads nano's vocoder or the release's."""
    cls: Any = vocoder_class(read_json(folder / "config.json", CheckpointError, COPY_AGAIN))
    return load_component(folder, cls.from_pretrained)
