"""Where samples come from: shards, a folder of speech, a set of clips or speech as published, or several of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from uniavgen.artifacts import check_path_length, path_exists, read_json_lines
from uniavgen.data.given_sets import is_table, open_given_set
from uniavgen.data.sample import Sample, parse_phones, read_sample
from uniavgen.data.shard_index import is_sample_key
from uniavgen.data.shards import ShardSet
from uniavgen.data.speech_sets import find_speech_set
from uniavgen.data.storage import is_url
from uniavgen.data.words import word_times
from uniavgen.errors import DataError, MediaError
from uniavgen.media.audio import read_audio
from uniavgen.timebase import ClipTiming

SPEECH_INDEX = "index.jsonl"


@runtime_checkable
class SampleSource(Protocol):
    """Samples in a fixed order, decoded one at a time."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Returns the keys of all samples, each once."""
        ...

    def read(self, key: str) -> Sample:
        """Decodes one sample. Raises DataError where it cannot be used."""
        ...


@dataclass(frozen=True, kw_only=True)
class ShardSource:
    """Samples of a folder of shards, as `uniavgen synth` and others write them."""

    shards: ShardSet
    timing: ClipTiming
    with_video: bool = True
    """False leaves frames out, for features of speech alone."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.shards.keys

    def read(self, key: str) -> Sample:
        """Decodes one sample, its video no further than the clip's length."""
        return read_sample(
            self.shards,
            self.shards.positions[key],
            self.timing.base,
            max_frames=self.timing.num_frames,
            with_video=self.with_video,
        )


@dataclass(frozen=True, kw_only=True)
class SpeechFolder:
    """Utterances of a folder: `index.jsonl` (id, text, voice, phones [[symbol, start s, end s]]) and `opus/ID.opus`.

    Utterances that go on after the clip's end are left out: their transcript would be wrong. Raises DataError where the
    index is damaged.
    """

    folder: Path
    timing: ClipTiming

    def __post_init__(self) -> None:
        _ = self._entries

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def read(self, key: str) -> Sample:
        """Decodes one utterance."""
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
            words=word_times(entry["text"], entry["phones"]),
        )

    @cached_property
    def _entries(self) -> dict[str, dict[str, Any]]:
        index = self.folder / SPEECH_INDEX
        entries: dict[str, dict[str, Any]] = {}
        for origin, entry in self._parsed(index):
            if entry["id"] in entries:
                raise DataError(f"{origin} has the id '{entry['id']}' again; give every utterance its own")
            entries[entry["id"]] = entry
        return {key: entry for key, entry in entries.items() if self._fits(entry)}

    def _parsed(self, index: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the place of each entry, and the entry. Raises DataError where one is no utterance."""
        for origin, entry in read_json_lines(index, remedy="copy it again"):
            for name in ("id", "text", "voice"):
                if not isinstance(entry.get(name), str) or not entry[name].strip():
                    raise DataError(f"{origin} has {entry.get(name)!r} as its {name}, expected a text; copy it again")
            if not is_sample_key(entry["id"]):
                raise DataError(f"{origin} has the id '{entry['id']}', expected a name without '.'; copy it again")
            entry["phones"] = parse_phones(origin, entry.get("phones"))
            yield origin, entry

    def _fits(self, entry: dict[str, Any]) -> bool:
        spoken = [end for symbol, _, end in entry["phones"] if symbol.isalpha()]
        return bool(spoken) and spoken[-1] <= self.timing.duration_s


@dataclass(frozen=True, kw_only=True)
class JoinedSources:
    """The samples of several folders, one folder after the other. Raises DataError where two hold the same key."""

    sources: Mapping[str, SampleSource]
    """By the names of their folders."""
    _names: dict[str, str] = field(init=False, default_factory=dict)
    """The folder of each key."""

    def __post_init__(self) -> None:
        first = self._names
        for name, source in self.sources.items():
            for key in source.keys:
                if key in first:
                    raise DataError(
                        f"the key '{key}' is in {first[key]} and in {name}; give every sample a key of its own, or "
                        "prepare them into folders of their own"
                    )
                first[key] = name

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._names)

    def read(self, key: str) -> Sample:
        """Decodes one sample."""
        return self.sources[self._names[key]].read(key)


def open_sources(folders: Sequence[str | Path], timing: ClipTiming, with_video: bool = True) -> SampleSource:
    """Opens shards, folders of speech, sets of clips and speech sets as one source.

    Raises DataError where one is none of them, is named twice, or a key occurs twice.
    """
    names = [str(folder) for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{twice} is named twice; name every folder once")
    for name in names:
        if not is_url(name):
            check_path_length(Path(name))
    return JoinedSources(sources={name: _open(name, timing, with_video) for name in names})


def _open(folder: str, timing: ClipTiming, with_video: bool) -> SampleSource:
    """Opens a source by what its folder holds. Raises DataError where it holds none, or a key twice."""
    path = Path(folder)
    if is_url(folder):
        # In a store there are shards only.
        return _open_shards(folder, timing, with_video)
    if path_exists(path) and is_table(path):
        given = open_given_set(path, timing, with_video)
        assert given is not None
        return given
    if path_exists(path) and path.is_dir():
        if path_exists(path / SPEECH_INDEX) and (path / SPEECH_INDEX).is_file():
            return SpeechFolder(folder=path, timing=timing)
        if not any(path.glob("*.tar")):
            found = open_given_set(path, timing, with_video) or find_speech_set(path, timing.base)
            if found is not None:
                return found
            nested = sorted({str(tar.parent) for tar in path.rglob("*.tar")})
            if nested:
                return JoinedSources(sources={name: _open_shards(name, timing, with_video) for name in nested})
            raise DataError(
                f"{folder} holds neither shards (*.tar), videos with transcripts, nor speech with an index.jsonl, a "
                "metadata.csv or transcripts beside its audio; give a folder of `uniavgen synth` or a set as published"
            )
    return _open_shards(folder, timing, with_video)


def _open_shards(folder: str, timing: ClipTiming, with_video: bool) -> ShardSource:
    return ShardSource(shards=ShardSet(folder), timing=timing, with_video=with_video)
