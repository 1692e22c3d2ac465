"""How sure the words of each segment are, and in which language they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uniavgen.config import Config
from uniavgen.data_engine.segment import SpeechSegment, segments_of
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput


@dataclass(frozen=True, kw_only=True)
class WordingConfig(Config):
    """It has no settings."""


class WordingStage(Stage):
    """Sums up the transcript of each segment.

    Values: segments (num_words; words_per_s; agreement, the share of words that both decodings have; probability, mean
    of the words'; language, that of most words; num_languages; or the reason why there are none).
    """

    name = "wording"
    requires = ("segments", "transcript")
    settings_class = WordingConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        del source
        words = inputs["transcript"].values["words"]
        return StageOutput(values={"segments": [_row(s, words) for s in segments_of(inputs["segments"])]})


def _row(segment: SpeechSegment, words: list[Mapping[str, Any]]) -> dict[str, Any]:
    inside = [word for word in words if segment.start_s <= (word["start_s"] + word["end_s"]) / 2 < segment.end_s]
    if not inside:
        return {"reason": "no word is heard"}
    languages = [word["language"] for word in inside]
    return {
        "num_words": len(inside),
        "words_per_s": round(len(inside) / segment.length_s, 3),
        "agreement": round(float(np.mean([word["agrees"] for word in inside])), 4),
        "probability": round(float(np.mean([word["probability"] for word in inside])), 4),
        "language": max(sorted(set(languages)), key=languages.count),
        "num_languages": len(set(languages)),
    }
