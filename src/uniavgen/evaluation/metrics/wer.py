"""Word error rate of Whisper's transcript against the script. [paper 4.1: Whisper large-v3]

Both texts go through Whisper's own English normaliser (numbers, contractions, British spelling).
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, ClassVar

import numpy as np

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, MetricContext
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.asr import ASR_PACKAGES, Transcriber, load_whisper
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.packages import require

PAPER_MODEL = "whisper-large-v3"
"""[paper 4.1]"""


def wer_columns(model: str) -> tuple[Column]:
    """Returns `wer` for the paper's model, another name for any other: a stand-in has its own column."""
    name = model.rpartition("/")[2].lower().removeprefix("faster-")
    suffix = "" if name == PAPER_MODEL else "_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    return (
        Column(
            name=f"wer{suffix}",
            description=f"word error rate of the transcript of Whisper ({name}) against the script, both normalised by "
            "Whisper's English normaliser; 0 or more, 1 is nothing understood",
            better=Better.LOWER,
        ),
    )


class WordErrorRate(Metric):
    """Whether the speech can be understood."""

    name = "wer"
    group = Group.PAPER
    required_networks: ClassVar[Sequence[str]] = ("whisper",)
    packages: ClassVar[Mapping[str, str]] = {
        "whisper_normalizer": "whisper-normalizer",
        "jiwer": "jiwer",
        **ASR_PACKAGES,
    }
    columns: Sequence[Column] = wer_columns(PAPER_MODEL)

    def __init__(self, context: MetricContext) -> None:
        super().__init__(context)
        (network,) = self.required_networks
        self._weights = context.weights[network]
        self.settings = {"language": "en"}
        self.columns = wer_columns(self._weights.label)
        # A control asks for the same sounds again.
        self._transcripts: dict[bytes, str] = {}

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        script = self._words(prompt.speech)
        transcript = self._transcript(clip)
        hypothesis = self._words(transcript)
        (column,) = self.columns
        return Measurement(
            scores={column.name: word_error_rate(hypothesis, script)},
            details={
                f"transcript/{column.name}": {
                    "heard": transcript.strip(),
                    "script": prompt.speech.strip(),
                    "heard_words": " ".join(hypothesis),
                    "script_words": " ".join(script),
                }
            },
        )

    def _transcript(self, clip: DecodedClip) -> str:
        if clip.waveform is None or clip.is_silent:
            # Whisper makes up words for silence.
            return ""
        digest = hashlib.sha256(np.ascontiguousarray(clip.waveform)).digest()
        if digest not in self._transcripts:
            self._transcripts[digest] = self._transcribe(clip.waveform)
        return self._transcripts[digest]

    def _words(self, text: str) -> list[str]:
        return self._normalise(text).split()

    @cached_property
    def _normalise(self) -> Any:
        return require("whisper_normalizer.english", "WER", "whisper-normalizer").EnglishTextNormalizer()

    @cached_property
    def _transcribe(self) -> Transcriber:
        return load_whisper(self._weights.path, self.context.device)


class WordErrorRateBase(WordErrorRate):
    """The same by Whisper base, which runs offline on a CPU."""

    name = "wer_base"
    group = Group.OPEN
    required_networks: ClassVar[Sequence[str]] = ("whisper-base",)
    columns: Sequence[Column] = wer_columns("whisper-base")


def word_error_rate(hypothesis: Sequence[str], script: Sequence[str]) -> float:
    """Returns (insertions + deletions + substitutions) / words of the script; NotMeasured for an empty script."""
    if not script:
        raise NotMeasured("the prompt has nothing to say")
    jiwer: Any = require("jiwer", "WER", "jiwer")
    return float(jiwer.process_words(" ".join(script), " ".join(hypothesis)).wer)


def word_differences(script: str, hypothesis: str) -> list[tuple[str, str]]:
    """Returns runs of words: of both texts (`same`), of the script alone (`missing`), of the hypothesis (`extra`)."""
    if not script:
        return [("extra", hypothesis)] if hypothesis else []
    jiwer: Any = require("jiwer", "WER", "jiwer")
    script_words, hypothesis_words = script.split(), hypothesis.split()
    runs: list[tuple[str, str]] = []
    chunks = jiwer.process_words(script, hypothesis).alignments[0]
    # Neighbouring substitutions, deletions and insertions are one run of each kind.
    for is_equal, group in groupby(chunks, lambda chunk: chunk.type == "equal"):
        together = list(group)
        missing = " ".join(script_words[together[0].ref_start_idx : together[-1].ref_end_idx])
        extra = " ".join(hypothesis_words[together[0].hyp_start_idx : together[-1].hyp_end_idx])
        if is_equal:
            runs.append(("same", missing))
        else:
            runs += [(kind, words) for kind, words in (("missing", missing), ("extra", extra)) if words]
    return runs
