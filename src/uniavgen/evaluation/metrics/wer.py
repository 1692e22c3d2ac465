"""Word error rate of what is heard against the script, by Whisper. [paper 4.1: Whisper large-v3]

Both texts go through Whisper's own English normaliser (numbers, contractions, British spelling). A folder with
`model.bin` runs on faster-whisper, any other folder or a hub name on transformers.
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.artifacts import first_line
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.clip import SPEECH_RATE_HZ, Clip
from uniavgen.evaluation.metric import Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt

PAPERS_MODEL = "whisper-large-v3"
"""[paper 4.1]"""


def word_error_rate(heard: list[str], expected: list[str]) -> float:
    """Insertions, deletions and substitutions over the number of expected words; NotMeasured for none."""
    if not expected:
        raise NotMeasured("the prompt has nothing to say")
    row = np.arange(len(heard) + 1)
    for i, word in enumerate(expected, start=1):
        previous, row = row, np.full_like(row, i)
        for j, other in enumerate(heard, start=1):
            row[j] = min(previous[j - 1] + (word != other), previous[j] + 1, row[j - 1] + 1)
    return float(row[-1]) / len(expected)


def columns_of(model: str) -> tuple[Column]:
    """`wer` for the paper's model, another name for any other: a stand-in has its own column."""
    name = model.rpartition("/")[2].lower().removeprefix("faster-")
    own = "" if name == PAPERS_MODEL else "_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    return (
        Column(
            name=f"wer{own}",
            description=f"word error rate of the transcript of Whisper ({name}) against the script, both normalised by "
            "Whisper's English normaliser; 0 or more, 1 is nothing understood",
            better=Better.LOWER,
        ),
    )


class WordErrorRate:
    """Can the speech be understood."""

    def __init__(self, network: str, weights: Weights, device: str = "cpu") -> None:
        """`network`: the name under which the report lists the weights."""
        self.networks = {network: weights}
        self.settings = {"language": "en"}
        self.columns = columns_of(weights.label)
        self._folder, self._device = weights.path, device
        # A control asks for the same sounds again.
        self._heard: dict[bytes, str] = {}

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        expected = self._words(prompt.speech)
        heard = self._transcript(clip)
        said = self._words(heard)
        return Measurement(
            scores={self.columns[0].name: word_error_rate(said, expected)},
            details={
                f"transcript/{self.columns[0].name}": {
                    "heard": heard.strip(),
                    "script": prompt.speech.strip(),
                    "heard_words": " ".join(said),
                    "script_words": " ".join(expected),
                }
            },
        )

    def _transcript(self, clip: Clip) -> str:
        if clip.waveform is None or clip.is_silent:
            # Whisper makes up words for silence.
            return ""
        sound = hashlib.sha256(np.ascontiguousarray(clip.waveform)).digest()
        if sound not in self._heard:
            self._heard[sound] = self._transcribe(clip.waveform)
        return self._heard[sound]

    def _words(self, text: str) -> list[str]:
        return self._normaliser(text).split()

    @cached_property
    def _normaliser(self) -> Any:
        return needed("whisper_normalizer.english", "WER", "whisper-normalizer").EnglishTextNormalizer()

    @cached_property
    def _transcribe(self) -> Any:
        faster = (self._folder / "model.bin").is_file()
        return (_FasterWhisper if faster else _TransformersWhisper)(self._folder, self._device)


class _FasterWhisper:
    def __init__(self, folder: Path, device: str) -> None:
        package = needed("faster_whisper", "WER", "faster-whisper")
        kind = "int8" if device == "cpu" else "float16"
        device = device.partition(":")[0]
        try:
            self._whisper = package.WhisperModel(str(folder), device=device, compute_type=kind, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise CheckpointError(f"{folder} holds no Whisper model that can be loaded ({error})") from None

    def __call__(self, waveform: Float32[np.ndarray, " samples"]) -> str:
        segments, _ = self._whisper.transcribe(waveform, language="en", beam_size=5, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)


class _TransformersWhisper:
    def __init__(self, folder: Path, device: str) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        try:
            self._processor = WhisperProcessor.from_pretrained(folder)
            self._whisper = WhisperForConditionalGeneration.from_pretrained(folder).to(device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} is no Whisper model that can be loaded ({first_line(error)})") from None

    def __call__(self, waveform: Float32[np.ndarray, " samples"]) -> str:
        import torch

        given = self._processor(
            waveform, sampling_rate=SPEECH_RATE_HZ, return_tensors="pt", return_attention_mask=True
        ).to(self._whisper.device)
        # An English model takes no language.
        is_multilingual = getattr(self._whisper.generation_config, "is_multilingual", False)
        asked = {"language": "en", "task": "transcribe"} if is_multilingual else {}
        with torch.no_grad():
            tokens = self._whisper.generate(**given, **asked, num_beams=5, do_sample=False)
        return str(self._processor.batch_decode(tokens, skip_special_tokens=True)[0])
