"""Makes the index of a feature set, or extends it: only the facts and the tensors' header of new clips are read."""

import json
import logging
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from uniavgen.artifacts import parse_json
from uniavgen.data.feature_index import CLIP_COLUMNS, FeatureIndex, PackedTexts
from uniavgen.data.index_file import write_arrays
from uniavgen.data.shard_index import PartLocation, ShardIndex
from uniavgen.data.shards import read_shard_index, repeated_key, shard_files
from uniavgen.data.storage import Storage, StoredFile
from uniavgen.errors import DataError

logger = logging.getLogger(__name__)

EMPTY_CAPTION: Final = "empty-caption"
"""Key of the sample that holds the features of the empty caption, which replaces dropped captions."""
FACTS_PART, TENSORS_PART = "json", "safetensors"
_HEADER_BYTES: Final = 1024
"""Read of a clip's tensors at first; their header, which says the shapes, is seldom longer."""
_MAX_HEADER_BYTES: Final = 2**16
_MAX_LENGTH: Final = 2**16 - 1
"""Of a clip in latent frames, rows, columns or audio tokens."""
_PIECES: Final = (*(name for name in CLIP_COLUMNS if name != "key_end"), "key_size", "key_text")
_LENGTHS: Final = ("latent_frames", "rows", "columns", "audio_tokens")


def write_feature_index(path: Path, storage: Storage, listing: Mapping[str, StoredFile], before: Path | None) -> None:
    """Writes the index of the features in a folder to `path`.

    before: an index of the same folder, whose clips are taken over where the folder still begins with them. Raises
    DataError where the shards hold no features, are truncated, or hold a key twice.
    """
    builder = _IndexBuilder(storage=storage, listing=listing)
    builder.collect(None if before is None else FeatureIndex(before, check=False))
    builder.write(path)


class _Clip(NamedTuple):
    key: str
    facts: PartLocation
    tensors: PartLocation


@dataclass(kw_only=True)
class _IndexBuilder:
    storage: Storage
    listing: Mapping[str, StoredFile]
    pieces: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in _PIECES})
    """The columns, a piece a shard; `key_size` stands for `key_end`."""
    shard_checksums: list[int] = field(default_factory=list)
    speakers: dict[str, int] = field(default_factory=dict)
    characters: dict[str, list[int]] = field(default_factory=dict)
    """Of each character the number of clips that have it, and the first of them."""
    empty_caption: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    num_clips: int = 0

    def collect(self, before: FeatureIndex | None) -> None:
        """Reads the shards; of `before` the clips are taken over where the shards begin with them."""
        shards = shard_files(self.listing)
        known = 0
        if before is not None and 0 < len(before.shards) <= len(shards):
            known = self._take_over(before, shards)
        for number in range(known, len(shards)):
            self._add(number, *self._opened(shards[number]), first=0)
        self._check_keys()

    def write(self, path: Path) -> None:
        """Writes the collected clips as an index."""
        if self.damaged:
            logger.warning("%d clips in %s are damaged, first %s", len(self.damaged), self.storage.url, self.damaged[0])
        shards = shard_files(self.listing)
        names, speakers = PackedTexts.pack([file.name for file in shards]), PackedTexts.pack(list(self.speakers))
        key_sizes = np.concatenate([*self.pieces.pop("key_size"), np.empty(0, np.int64)])
        speaker = np.concatenate([*self.pieces["speaker"], np.empty(0, np.uint32)])
        counts = np.bincount(speaker, minlength=len(speakers))
        characters = sorted(self.characters)
        tables = {
            "key_end": np.cumsum(key_sizes),
            "shard_end": names.ends,
            "shard_text": names.content,
            "shard_bytes": np.array([file.size for file in shards], np.int64),
            "shard_crc32": np.array(self.shard_checksums, np.uint32),
            "speaker_end": speakers.ends,
            "speaker_text": speakers.content,
            "speaker_start": np.cumsum([0, *counts], dtype=np.int64),
            "speaker_clips": np.argsort(speaker, kind="stable").astype(np.uint32),
            "character": np.array([ord(character) for character in characters], np.uint32),
            "character_clips": np.array([self.characters[character][0] for character in characters], np.int64),
            "character_first": np.array([self.characters[character][1] for character in characters], np.int64),
            "empty_caption": np.array(self.empty_caption, np.int64),
        }
        empty = {name: np.empty(0, kind) for name, kind in CLIP_COLUMNS.items()} | {"key_text": np.empty(0, np.uint8)}
        columns = {name: [empty[name], *pieces] for name, pieces in self.pieces.items()}
        write_arrays(path, columns | {name: [array] for name, array in tables.items()})

    def _take_over(self, before: FeatureIndex, shards: Sequence[StoredFile]) -> int:
        """Takes the clips of `before` over, and what its last shard holds beyond; returns how many shards are read.

        That is 0 where another shard than the last has changed.
        """
        last = len(before.shards) - 1
        names, sizes = list(before.shards), before.arrays["shard_bytes"].tolist()
        if names != [file.name for file in shards[: last + 1]] or sizes[:-1] != [file.size for file in shards[:last]]:
            return 0
        shard, checksum = self._opened(shards[last])
        first = int(np.searchsorted(before.arrays["shard"], last))
        indexed = [
            _Clip(before.key(i), before.facts(i).location, before.tensors(i).location)
            for i in range(first, len(before))
        ]
        if self._clips(shard)[: len(indexed)] != indexed:
            return 0
        for name in set(CLIP_COLUMNS) - {"key_end"}:
            self.pieces[name].append(before.arrays[name])
        self.pieces["key_text"].append(before.arrays["key_text"])
        self.pieces["key_size"].append(np.diff(before.arrays["key_end"], prepend=0))
        self.shard_checksums = before.arrays["shard_crc32"][:last].tolist()
        self.speakers = {name: number for number, name in enumerate(before.speakers)}
        columns = (before.arrays[name].tolist() for name in ("character", "character_clips", "character_first"))
        self.characters = {chr(code): [count, clip] for code, count, clip in zip(*columns, strict=True)}
        self.empty_caption = before.arrays["empty_caption"].tolist()
        self.num_clips = len(before)
        self._add(last, shard, checksum, first=len(indexed))
        return last + 1

    def _opened(self, file: StoredFile) -> tuple[ShardIndex, int]:
        """Returns the samples of a shard, and the checksum of the index beside it."""
        shard = read_shard_index(self.storage, self.listing, file)
        (checksum,) = shard_checksums(self.storage, self.listing, [file])
        return shard, checksum

    def _add(self, number: int, shard: ShardIndex, checksum: int, first: int) -> None:
        """Appends the clips of a shard from the one with number `first` in it on."""
        self.shard_checksums.append(checksum)
        if EMPTY_CAPTION in shard.keys:
            location = shard.parts(shard.keys.index(EMPTY_CAPTION))[TENSORS_PART]
            self.empty_caption = [number, *location]
        clips = self._clips(shard)[first:]
        if not clips:
            return
        heads = ((tensors.offset, tensors.offset + min(tensors.size, _HEADER_BYTES)) for _, _, tensors in clips)
        facts = (part.span for _, part, _ in clips)
        contents = self.storage.read_ranges(shard.path, [*facts, *heads])
        speakers, lengths = [], []
        for clip, text, head in zip(clips, contents, contents[len(clips) :], strict=False):
            speakers.append(self._speaker(shard, clip, text))
            lengths.append(self._lengths(shard, clip, head))
            self.num_clips += 1
        keys = [key.encode() for key, _, _ in clips]
        table = {
            "json": np.array([part for _, part, _ in clips], np.int64),
            "tensors": np.array([part for _, _, part in clips], np.int64),
        }
        added = {f"{part}_{name}": table[part][:, i] for part in table for i, name in enumerate(PartLocation._fields)}
        added |= dict(zip(_LENGTHS, np.array(lengths).T, strict=True))
        added |= {"speaker": np.array(speakers), "shard": np.full(len(clips), number)}
        for name, column in added.items():
            self.pieces[name].append(column.astype(CLIP_COLUMNS[name]))
        self.pieces["key_size"].append(np.array([len(key) for key in keys], np.int64))
        self.pieces["key_text"].append(np.frombuffer(b"".join(keys), np.uint8))

    def _clips(self, shard: ShardIndex) -> "list[_Clip]":
        """Returns the clips of a shard. Raises DataError where a sample is none."""
        clips = []
        for row, key in enumerate(shard.keys):
            if key == EMPTY_CAPTION:
                continue
            parts = shard.parts(row)
            if FACTS_PART not in parts or TENSORS_PART not in parts:
                raise no_features(key, self.storage.url)
            clips.append(_Clip(key, parts[FACTS_PART], parts[TENSORS_PART]))
        return clips

    def _speaker(self, shard: ShardIndex, clip: "_Clip", content: bytes) -> int:
        """Counts the characters of a clip's transcript and returns the number of its speaker; "" if it is damaged."""
        text, speaker = "", ""
        if clip.facts.matches(content):
            facts = parse_json(content, f"'{clip.key}.{FACTS_PART}' in {shard.path}")
            text, speaker = facts.get("text"), facts.get("speaker")
            if not isinstance(text, str) or not isinstance(speaker, str):
                raise no_features(clip.key, self.storage.url)
        else:
            self.damaged.append(f"'{clip.key}.{FACTS_PART}' in {shard.path}")
        for character in set(text):
            self.characters.setdefault(character, [0, self.num_clips])[0] += 1
        return self.speakers.setdefault(speaker, len(self.speakers))

    def _lengths(self, shard: ShardIndex, clip: "_Clip", head: bytes) -> tuple[int, ...]:
        """Returns latent frames, rows, columns and audio tokens of a clip; zeros if its tensors are damaged."""
        size = int.from_bytes(head[:8], "little")
        if len(head) - 8 < size <= _MAX_HEADER_BYTES:
            head = self.storage.read(shard.path, clip.tensors.offset, clip.tensors.offset + 8 + size)
        try:
            entries = json.loads(head[8 : 8 + size])
            _, *video = entries["latents"]["shape"] if "latents" in entries else (0, 0, 0, 0)
            lengths = (*video, entries["mel"]["shape"][0])
            if len(lengths) == len(_LENGTHS) and all(0 <= length <= _MAX_LENGTH for length in lengths):
                return lengths
        except (ValueError, LookupError, TypeError):
            pass
        self.damaged.append(f"'{clip.key}.{TENSORS_PART}' in {shard.path}")
        return (0,) * len(_LENGTHS)

    def _check_keys(self) -> None:
        """Raises DataError where a key occurs twice."""
        texts = self.pieces["key_text"]
        ends = np.cumsum(np.concatenate([*self.pieces["key_size"], np.empty(0, np.int64)]))
        keys = PackedTexts(ends, np.concatenate([*texts, np.empty(0, np.uint8)]))
        # Python's hash is one number of 64 bits, where a set of the keys would take a hundred bytes each.
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
        ordered = np.sort(hashes)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(repeated):
            return
        suspects = [int(i) for i in np.flatnonzero(np.isin(hashes, repeated))]
        key, count = Counter(keys[i] for i in suspects).most_common(1)[0]
        if count > 1:
            shards, numbers = shard_files(self.listing), np.concatenate(self.pieces["shard"])
            paths = dict.fromkeys(shards[int(numbers[i])].path for i in suspects if keys[i] == key)
            raise repeated_key(key, count, self.storage.url, list(paths))


def shard_checksums(storage: Storage, listing: Mapping[str, StoredFile], shards: Sequence[StoredFile]) -> list[int]:
    """Returns the CRC-32 of the index beside each shard, which holds those of its samples; 0 where there is none."""
    beside = [listing.get(shard.name.removesuffix(".tar") + ".npz") for shard in shards]
    contents = storage.read_files([file.path for file in beside if file is not None])
    checksums = map(zlib.crc32, contents)
    return [0 if file is None else next(checksums) for file in beside]


def no_features(key: str, folder: str) -> DataError:
    """Returns the error of a sample that is something else."""
    return DataError(f"sample '{key}' in {folder} does not hold features; give a folder of `uniavgen prepare`")
