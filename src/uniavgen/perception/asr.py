"""Speech recognition by Whisper: English text for word error rates, words with times of any language for transcripts.

[Radford et al., 2022] A folder with `model.bin` runs on faster-whisper (CTranslate2), any other folder on transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ

ASR_PACKAGES = {"faster_whisper": "faster-whisper"}
NUM_BEAMS = 5

Transcriber = Callable[[Float32[np.ndarray, " samples"]], str]
"""From a 16 kHz waveform to its text."""


@dataclass(frozen=True, kw_only=True)
class HeardWord:
    """A word of a decoding."""

    text: str
    """With its punctuation, without blanks around it."""
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What Whisper makes of a stretch of sound."""

    language: str
    """ISO 639-1 as a rule."""
    language_probability: float
    words: tuple[HeardWord, ...]


def load_whisper(folder: Path, device: str = "cpu") -> Transcriber:
    """Loads Whisper from a folder; CheckpointError where it holds none."""
    if (folder / "model.bin").is_file():
        return FasterWhisper(folder, device)
    return TransformersWhisper(folder, device)


class FasterWhisper:
    """Whisper in CTranslate2's format, int8 on CPUs."""

    def __init__(self, folder: Path, device: str) -> None:
        package = require("faster_whisper", "WER", "faster-whisper")
        compute_type = "int8" if device == "cpu" else "float16"
        device = device.partition(":")[0]
        try:
            self._model = package.WhisperModel(
                str(folder), device=device, compute_type=compute_type, local_files_only=True
            )
        except (RuntimeError, ValueError) as error:  # raised by CTranslate2 for files that are no model
            raise CheckpointError(f"{folder} holds no Whisper model that can be loaded ({error})") from error

    def __call__(self, waveform: Float32[np.ndarray, " samples"]) -> str:
        segments, _ = self._model.transcribe(waveform, language="en", beam_size=NUM_BEAMS, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)

    def words(
        self, waveform: Float32[np.ndarray, " samples"], *, language: str | None = None, num_beams: int = NUM_BEAMS
    ) -> Decoding:
        """Returns the words of a 16 kHz waveform with their times, up to 30 s; None finds out the language.

        A stretch of text is not given to the next one, so that a mistake is not repeated.
        """
        segments, info = self._model.transcribe(
            waveform,
            language=language,
            beam_size=num_beams,
            temperature=0.0,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        words = [word for segment in segments for word in segment.words or ()]
        return Decoding(
            language=info.language,
            language_probability=float(info.language_probability),
            words=tuple(
                HeardWord(text=text, start_s=float(word.start), end_s=float(word.end), probability=word.probability)
                for word in words
                if (text := word.word.strip())
            ),
        )


class TransformersWhisper:
    """Whisper in the format of transformers."""

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        try:
            self._processor = WhisperProcessor.from_pretrained(folder)
            self._model = WhisperForConditionalGeneration.from_pretrained(folder).to(device).eval()
        except (OSError, ValueError) as error:  # documented by from_pretrained
            raise CheckpointError(f"{folder} is no Whisper model that can be loaded ({first_line(error)})") from error

    def __call__(self, waveform: Float32[np.ndarray, " samples"]) -> str:
        features = self._processor(
            waveform, sampling_rate=SPEECH_RATE_HZ, return_tensors="pt", return_attention_mask=True
        ).to(self._model.device)
        # An English-only model takes no language.
        is_multilingual = getattr(self._model.generation_config, "is_multilingual", False)
        language = {"language": "en", "task": "transcribe"} if is_multilingual else {}
        with torch.no_grad():
            tokens = self._model.generate(**features, **language, num_beams=NUM_BEAMS, do_sample=False)
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0])
