"""Word error rate of what the clip says against what it should say, by Whisper through faster-whisper (extra `eval`).

The model is a folder or a name that faster-whisper knows; nothing is fetched where it is a folder.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import MadeClip, NotMeasured, TruthClip
from uniavgen.timebase import Timebase

WHISPER_RATE_HZ = 16_000


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes are dropped, other punctuation separates."""
    return re.findall(r"\w+", text.lower().replace("'", "").replace("\u2019", ""))


def word_error_rate(heard: list[str], expected: list[str]) -> float:
    """Insertions, deletions and substitutions over the number of expected words; NotMeasured for none."""
    if not expected:
        raise NotMeasured("the clip has nothing to say")
    row = np.arange(len(heard) + 1)
    for i, word in enumerate(expected, start=1):
        previous, row = row, np.full_like(row, i)
        for j, other in enumerate(heard, start=1):
            row[j] = min(previous[j - 1] + (word != other), previous[j] + 1, row[j - 1] + 1)
    return float(row[-1]) / len(expected)


class WordErrorRate:
    """Can the speech be understood."""

    name = "wer"
    description = "word error rate of Whisper's transcript against the script; 0 is best"

    def __init__(self, model: str, timebase: Timebase) -> None:
        """`model`: a CTranslate2 Whisper folder. CheckpointError where it, or faster-whisper, is missing."""
        try:
            from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise CheckpointError("WER needs faster-whisper, which is missing: pip install 'uniavgen[eval]'") from None
        if not (Path(model) / "model.bin").is_file():
            raise CheckpointError(f"{model} is no Whisper folder (no model.bin); give one in CTranslate2 format")
        self._whisper: Any = WhisperModel(model, device="cpu", compute_type="int8", local_files_only=True)
        self._rate_hz = timebase.sample_rate_hz

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        return word_error_rate(words(self._transcribe(made.waveform)), words(truth.speech))

    def _transcribe(self, waveform: Float[np.ndarray, " samples"]) -> str:
        sound = resample_poly(waveform, WHISPER_RATE_HZ, self._rate_hz).astype(np.float32)
        segments, _ = self._whisper.transcribe(sound, language="en", beam_size=5, temperature=0.0)
        return " ".join(segment.text for segment in segments)
