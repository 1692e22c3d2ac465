"""Sources that say themselves what stages find in them: no media, but files of JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniavgen.config import Config
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import Stage, StageOutput


@dataclass(frozen=True, kw_only=True)
class WrittenConfig(Config):
    """It has no settings."""


class Written(Stage):
    """What the file says."""

    settings_class = WrittenConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        said = json.loads(source.path.read_text())[self.name]
        arrays = {name: np.array(rows, np.float32) for name, rows in said.get("arrays", {}).items()}
        return StageOutput(values=said.get("values", {}), arrays=arrays)


class WrittenSegments(Written):
    name = "segments"


class WrittenTranscript(Written):
    name = "transcript"


class WrittenHashes(Written):
    name = "hashes"
    requires = ("segments",)


class WrittenSpeaker(Written):
    name = "speaker"
    requires = ("segments",)


WRITTEN = (WrittenSegments, WrittenTranscript, WrittenHashes, WrittenSpeaker)


def write_source(path: Path, words: str, voices: Any, look: str = "0123456789abcdef", note: str = "") -> Path:
    """Writes a source with a segment of 10 s for each voice, in each of which the words are said before the look."""
    said = [
        {"text": word, "start_s": 10.0 * index + 0.5 * number, "end_s": 10.0 * index + 0.5 * number + 0.4}
        for index in range(len(voices))
        for number, word in enumerate(words.split(), start=1)
    ]
    rows = [{"start_s": 10.0 * index, "end_s": 10.0 * index + 10} for index in range(len(voices))]
    content = {
        "segments": {"values": {"segments": rows}},
        "transcript": {"values": {"words": said, "language": "en"}},
        "hashes": {"values": {"segments": [[look] for _ in rows]}},
        "speaker": {"arrays": {"embedding": np.asarray(voices).tolist()}},
        "note": note,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
