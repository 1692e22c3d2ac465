"""The codecs of a model folder, as `uniavgen train-codec` leaves them, and the pipeline around a transformer."""

import json
from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKLWan
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2_5OmniToken2WavBigVGANModel,
    UMT5EncoderModel,
)

from uniavgen.codecs.caption import CaptionEncoder
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.codecs.vocoder import NanoVocoder
from uniavgen.config import dump
from uniavgen.errors import CheckpointError
from uniavgen.inference.picture import Cover, ShortSide
from uniavgen.inference.pipeline import UniAVGenPipeline
from uniavgen.inference.request import SamplingConfig
from uniavgen.models.transformer import UniAVGenTransformer


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything of a model but its transformer."""

    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    vocoder: NanoVocoder | Qwen2_5OmniToken2WavBigVGANModel | None
    """None stands for Griffin-Lim."""
    speech_tokenizer: SpeechSymbols

    @property
    def caption(self) -> CaptionEncoder:
        return CaptionEncoder(self.tokenizer, self.text_encoder)

    def pipeline(
        self, transformer: UniAVGenTransformer, size: int, sampling: SamplingConfig | None = None
    ) -> UniAVGenPipeline:
        """A pipeline for pictures of `size` pixels a side; 0 keeps the aspect of the picture that is given.

        `sampling` is what requests take where they say nothing; None stands for the paper's.
        """
        return UniAVGenPipeline(
            transformer=transformer,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            speech_tokenizer=self.speech_tokenizer,
            vocoder=self.vocoder,
            picture_config=dump(Cover(height=size, width=size) if size else ShortSide()),
            sampling_config=dump(sampling or SamplingConfig()),
        )


def load_parts(folder: Path, device: str = "cpu") -> Parts:
    """The codecs in `folder`, with its vocoder if there is one and its speech symbols, or printable ASCII.

    CheckpointError where one is missing or damaged.
    """
    for name in ("vae", "text_encoder", "tokenizer"):
        _expect(folder, name)
    symbols = folder / "speech_tokenizer"
    try:
        return Parts(
            vae=load_video_vae(folder).eval().to(device),
            text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval().to(device),
            tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
            vocoder=_vocoder(folder / "vocoder", device),
            speech_tokenizer=SpeechSymbols.from_pretrained(symbols) if symbols.is_dir() else SpeechSymbols.of(),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        detail = str(error).splitlines()[0][:200]
        raise CheckpointError(f"the codecs in {folder} cannot be loaded ({detail}); train or copy them again") from None


def load_video_vae(folder: Path) -> AutoencoderKLWan:
    """The video autoencoder of a model folder; CheckpointError where there is none, or a damaged one."""
    _expect(folder, "vae")
    try:
        return AutoencoderKLWan.from_pretrained(folder / "vae")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        detail = str(error).splitlines()[0][:200]
        raise CheckpointError(f"{folder / 'vae'} cannot be loaded ({detail}); train or copy it again") from None


def _expect(folder: Path, name: str) -> None:
    if not (folder / name).is_dir():
        raise CheckpointError(f"{folder} has no folder '{name}'; give a model folder, as train-codec leaves it")


def _vocoder(folder: Path, device: str) -> NanoVocoder | Qwen2_5OmniToken2WavBigVGANModel | None:
    """nano's, the release's, or none."""
    if not folder.is_dir():
        return None
    # Only diffusers writes the class under this name.
    is_nano = "_class_name" in json.loads((folder / "config.json").read_text())
    kind = NanoVocoder if is_nano else Qwen2_5OmniToken2WavBigVGANModel
    return kind.from_pretrained(folder).eval().to(device)
