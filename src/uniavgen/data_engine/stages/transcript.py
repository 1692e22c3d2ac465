"""What is said and when, by Whisper; only what two decodings agree on is sure."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32

from uniavgen.config import Config
from uniavgen.config.values import Positive, PositiveInt
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageContext, StageOutput
from uniavgen.errors import CheckpointError
from uniavgen.media.audio_stream import cut_audio
from uniavgen.media.reader import open_media
from uniavgen.perception.asr import ASR_PACKAGES, NUM_BEAMS, Decoding, FasterWhisper, HeardWord
from uniavgen.perception.sound import SPEECH_RATE_HZ

NETWORK = "whisper-base"
Stretch = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True, kw_only=True)
class TranscriptConfig(Config):
    """Settings of `TranscriptStage`."""

    max_stretch_s: Positive = 24.0
    """Speech that is decoded at once; Whisper hears 30 s, whatever is in them. [ours]"""
    max_pause_s: Positive = 2.0
    """A longer pause ends a stretch, since another language may follow. [ours]"""
    margin_s: Positive = 0.3
    """Sound before and behind speech that is decoded with it. [ours]"""
    delay_s: Positive = 0.7
    """Silence before the sound in the second decoding, so that mistakes fall out otherwise. [ours]"""
    num_beams: PositiveInt = NUM_BEAMS
    """Of the first decoding."""
    second_num_beams: PositiveInt = 1


class TranscriptStage(Stage):
    """Decodes the stretches of speech twice: with beams as they are, and greedily behind a short silence.

    Values: words (text, start_s, end_s, probability, language, agrees: whether the second decoding has it too);
    stretches (start_s, end_s, language, language_probability, agreement: share of words that agree); language, the
    one of most words, "" without any; language_probability and agreement, means over words.
    """

    name = "transcript"
    version = 2
    requires = ("voice_activity",)
    required_networks = (NETWORK,)
    packages = ASR_PACKAGES
    settings_class = TranscriptConfig
    settings: TranscriptConfig

    def __init__(self, settings: TranscriptConfig, context: StageContext) -> None:
        super().__init__(settings, context)
        folder = context.weights[NETWORK].path
        if not (folder / "model.bin").is_file():
            raise CheckpointError(
                f"{folder} holds no Whisper in CTranslate2's format; name a folder that "
                "`ct2-transformers-converter --quantization int8 --copy_files tokenizer.json preprocessor_config.json` "
                "has written"
            )

    def setup(self) -> None:
        self._whisper = FasterWhisper(self.context.weights[NETWORK].path, self.context.device)

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        activity = inputs["voice_activity"].values
        stretches = joined_stretches(activity["speech"], self.settings.max_stretch_s, self.settings.max_pause_s)
        edges = [(max(a - self.settings.margin_s, 0.0), b + self.settings.margin_s) for a, b in stretches]
        words: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        with open_media(source.path, quiet=True) as reader:
            for (start_s, end_s), waveform in zip(edges, cut_audio(reader, SPEECH_RATE_HZ, edges), strict=True):
                decoding, agrees = self._decoded_twice(waveform, end_s - start_s)
                after_s = words[-1]["end_s"] if words else 0.0
                words += self._word_rows(decoding, agrees, activity["speech"], start_s, after_s)
                rows.append(
                    {
                        "start_s": round(start_s, 3),
                        "end_s": round(end_s, 3),
                        "language": decoding.language,
                        "language_probability": round(decoding.language_probability, 4),
                        "agreement": round(float(np.mean(agrees)), 4) if agrees else 0.0,
                    }
                )
        return StageOutput(values={"words": words, "stretches": rows, **_summary(words, rows)})

    def _decoded_twice(
        self, waveform: Float32[np.ndarray, " samples"], length_s: float
    ) -> tuple[Decoding, tuple[bool, ...]]:
        first = self._whisper.words(waveform, num_beams=self.settings.num_beams)
        delayed = np.pad(waveform, (round(self.settings.delay_s * SPEECH_RATE_HZ), 0))
        second = self._whisper.words(delayed, language=first.language, num_beams=self.settings.second_num_beams)
        # Whisper sometimes puts words behind the end of the sound.
        words = tuple(replace(w, end_s=min(w.end_s, length_s)) for w in first.words if w.start_s < length_s)
        return replace(first, words=words), agreeing_words(words, second.words)

    def _word_rows(
        self,
        decoding: Decoding,
        agrees: Sequence[bool],
        speech: Sequence[Sequence[float]],
        offset_s: float,
        after_s: float,
    ) -> Iterator[dict[str, Any]]:
        """Yields words in the time of the source, in order and never overlapping; signs alone are none."""
        for word, agreed in zip(decoding.words, agrees, strict=True):
            if not _units(word.text):
                continue
            start_s, end_s = within_speech(word.start_s + offset_s, word.end_s + offset_s, speech)
            start_s = max(start_s, after_s)
            after_s = max(end_s, start_s)
            yield {
                "text": word.text,
                "start_s": round(start_s, 3),
                "end_s": round(after_s, 3),
                "probability": round(word.probability, 4),
                "language": decoding.language,
                "agrees": agreed,
            }


def joined_stretches(intervals: Sequence[Sequence[float]], max_s: float, max_pause_s: float) -> list[Stretch]:
    """Joins speech over short pauses to stretches of at most `max_s`; speech without a pause is split evenly."""
    stretches: list[Stretch] = []
    for start_s, end_s in intervals:
        if stretches and start_s - stretches[-1][1] <= max_pause_s and end_s - stretches[-1][0] <= max_s:
            stretches[-1] = (stretches[-1][0], end_s)
            continue
        edges = np.linspace(start_s, end_s, int(np.ceil((end_s - start_s) / max_s)) + 1).tolist()
        stretches += pairwise(edges)
    return stretches


def within_speech(start_s: float, end_s: float, speech: Sequence[Sequence[float]]) -> Stretch:
    """Returns a word without the silence before and behind it, into which Whisper lets words reach.

    A word that has no speech at all stays as it is.
    """
    parts = [(max(start_s, a), min(end_s, b)) for a, b in speech if a < end_s and b > start_s]
    return (parts[0][0], parts[-1][1]) if parts else (start_s, end_s)


def agreeing_words(words: Sequence[HeardWord], others: Sequence[HeardWord]) -> tuple[bool, ...]:
    """Returns which of `words` the other decoding has in the same order, whatever case and punctuation."""
    units = [(index, unit) for index, word in enumerate(words) for unit in _units(word.text)]
    theirs = [unit for word in others for unit in _units(word.text)]
    agrees = [True] * len(words)
    matched = [False] * len(units)
    for block in SequenceMatcher(None, [unit for _, unit in units], theirs, autojunk=False).get_matching_blocks():
        matched[block.a : block.a + block.size] = [True] * block.size
    for (index, _), is_matched in zip(units, matched, strict=True):
        agrees[index] &= is_matched
    return tuple(agrees)


def _units(text: str) -> list[str]:
    """Returns what of a word is compared: itself without signs; single characters in scripts that put no blanks."""
    letters = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
    if any(unicodedata.category(c) == "Lo" for c in letters):
        return list(letters)
    return [letters] if letters else []


def _summary(words: Sequence[Mapping[str, Any]], stretches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the language of most words, how sure it is, and how many words agree."""
    if not words:
        return {"language": "", "language_probability": 0.0, "agreement": 0.0}
    counts: dict[str, int] = {}
    for word in words:
        counts[word["language"]] = counts.get(word["language"], 0) + 1
    language = max(sorted(counts), key=lambda name: counts[name])
    sure = [row["language_probability"] for row in stretches if row["language"] == language]
    return {
        "language": language,
        "language_probability": round(float(np.mean(sure)), 4),
        "agreement": round(float(np.mean([word["agrees"] for word in words])), 4),
    }
