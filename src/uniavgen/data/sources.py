"""Where samples come from: shards, or a plain folder of speech."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from uniavgen.data.sample import Sample, read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.data.words import word_times
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.timebase import ClipTiming


@runtime_checkable
class SampleSource(Protocol):
    """Samples in a fixed order, decoded one at a time."""

    @property
    def keys(self) -> tuple[str, ...]: ...

    def read(self, key: str) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class ShardSource:
    """Samples of a folder of shards, as `uniavgen synth` writes it."""

    shards: ShardSet
    timing: ClipTiming

    @property
    def keys(self) -> tuple[str, ...]:
        return self.shards.keys

    def read(self, key: str) -> Sample:
        """Decode one sample; DataError where it is damaged."""
        return read_sample(self.shards, self.shards.positions[key], self.timing.base)


@dataclass(frozen=True, kw_only=True)
class SpeechFolder:
    """Utterances of a folder: `index.jsonl` (id, text, voice, phones [[symbol, start s, end s]]) and `opus/ID.opus`.

    Utterances that go on after the clip's end are left out: their transcript would be wrong.
    """

    folder: Path
    timing: ClipTiming

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def read(self, key: str) -> Sample:
        """Decode one utterance; DataError where its sound is missing or damaged."""
        entry = self._entries[key]
        path = self.folder / "opus" / f"{key}.opus"
        try:
            waveform = read_audio(path, self.timing.base.sample_rate_hz)
        except MediaError as error:
            raise DataError(f"{path} cannot be read ({error}); copy the speech folder again") from error
        return Sample(
            key=key,
            text=entry["text"],
            caption="",
            speaker=entry["voice"],
            waveform=waveform,
            words=word_times(entry["text"], [(s, a, b) for s, a, b in entry["phones"]]),
        )

    @cached_property
    def _entries(self) -> dict[str, dict]:
        index = self.folder / "index.jsonl"
        if not index.is_file():
            raise DataError(f"{self.folder} has no index.jsonl; give a folder of shards or of speech")
        return {entry["id"]: entry for entry in self._parsed(index) if self._fits(entry)}

    def _parsed(self, index: Path) -> Iterator[dict]:
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{index} line {number} is not JSON ({error}); copy it again") from None

    def _fits(self, entry: dict) -> bool:
        spoken = [end for symbol, _, end in entry["phones"] if symbol.isalpha()]
        return bool(spoken) and spoken[-1] <= self.timing.duration_s


def open_source(folder: str | Path, timing: ClipTiming) -> SampleSource:
    """Shards or speech, by what the folder holds."""
    if (Path(folder) / "index.jsonl").is_file():
        return SpeechFolder(folder=Path(folder), timing=timing)
    return ShardSource(shards=ShardSet(str(folder)), timing=timing)
