"""The index of a feature set: one memory-mapped file that says of every clip where it lies, whose it is and how long.

Opening it takes the time to read it through once, and each process little memory, for a hundred clips as for millions:
there is no Python object a clip. `data.index_builder` makes it.

Letters: n clips, s speakers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8, UInt16, UInt32

from uniavgen.data.index_file import map_arrays
from uniavgen.data.shard_index import PartLocation
from uniavgen.errors import DataError

CLIP_COLUMNS: Final = {
    "key_end": np.int64,
    "json_offset": np.int64,
    "tensors_offset": np.int64,
    "json_size": np.uint32,
    "json_crc32": np.uint32,
    "tensors_size": np.uint32,
    "tensors_crc32": np.uint32,
    "shard": np.uint32,
    "speaker": np.uint32,
    "latent_frames": np.uint16,
    "rows": np.uint16,
    "columns": np.uint16,
    "audio_tokens": np.uint16,
}
"""Columns with one item a clip."""
TABLES: Final = {
    "key_text": np.uint8,
    "shard_end": np.int64,
    "shard_text": np.uint8,
    "shard_bytes": np.int64,
    "shard_crc32": np.uint32,
    "speaker_end": np.int64,
    "speaker_text": np.uint8,
    "speaker_start": np.int64,
    "speaker_clips": np.uint32,
    "character": np.uint32,
    "character_clips": np.int64,
    "character_first": np.int64,
    "empty_caption": np.int64,
}


@dataclass(frozen=True)
class PackedTexts:
    """Texts one behind the other in UTF-8, and where each ends."""

    ends: Int64[np.ndarray, " n"]
    content: UInt8[np.ndarray, " bytes"]

    @classmethod
    def pack(cls, texts: list[str]) -> "PackedTexts":
        """Returns the texts, packed."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)[1:]
        return cls(ends, np.frombuffer(b"".join(encoded), np.uint8))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        start = int(self.ends[i - 1]) if i else 0
        return self.content[start : int(self.ends[i])].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class ClipPart:
    """Where a part of a clip lies."""

    shard: str
    """File name of the tar."""
    location: PartLocation


class CharacterUse(NamedTuple):
    """Which transcripts have a character."""

    num_clips: int
    first_clip: int


class FeatureIndex:
    """The clips of a feature set, in the order they were written, as arrays that lie in the file `path`.

    Pickled, it is its path. Raises DataError where the file is damaged.
    """

    latent_frames: UInt16[np.ndarray, " n"]
    """Latent frames of each clip; 0 for speech alone."""
    rows: UInt16[np.ndarray, " n"]
    """Height of the latent grid; 0 for speech alone."""
    columns: UInt16[np.ndarray, " n"]
    """Width of the latent grid; 0 for speech alone."""
    audio_tokens: UInt16[np.ndarray, " n"]
    """Frames of the mel; 0 where the clip was damaged already when the index was made."""
    speaker: UInt32[np.ndarray, " n"]
    """Number of each clip's speaker, in the order in which the speakers occur first."""

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self.path = path
        self.arrays = map_arrays(path, check=check)
        expected = {name: np.dtype(kind) for name, kind in (CLIP_COLUMNS | TABLES).items()}
        given = {name: array.dtype for name, array in self.arrays.items()}
        if given != expected or len({len(self.arrays[name]) for name in CLIP_COLUMNS}) != 1:
            raise DataError(f"the index {path} has other columns than this version reads; delete it, it is made again")
        self.latent_frames, self.rows, self.columns = (self.arrays[n] for n in ("latent_frames", "rows", "columns"))
        self.audio_tokens, self.speaker = self.arrays["audio_tokens"], self.arrays["speaker"]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path,)

    def __len__(self) -> int:
        return len(self.audio_tokens)

    def key(self, i: int) -> str:
        """Returns the key of clip `i`."""
        return self.keys[i]

    def facts(self, i: int) -> ClipPart:
        """Returns where the transcript, words and speaker of clip `i` lie."""
        return self._part(i, "json")

    def tensors(self, i: int) -> ClipPart:
        """Returns where the tensors of clip `i` lie."""
        return self._part(i, "tensors")

    @property
    def has_video(self) -> bool:
        """Whether any clip has video."""
        return bool(self.latent_frames.any())

    @property
    def empty_caption(self) -> ClipPart | None:
        """Where the features of the empty caption lie; None where the set is of speech alone."""
        if not len(self.arrays["empty_caption"]):
            return None
        shard, *location = self.arrays["empty_caption"].tolist()
        return ClipPart(self.shards[shard], PartLocation(*location))

    def clips_of(self, speaker: int) -> UInt32[np.ndarray, " clips"]:
        """Returns the clips of a speaker, in rising order."""
        start, stop = self.arrays["speaker_start"][speaker : speaker + 2].tolist()
        return self.arrays["speaker_clips"][start:stop]

    @cached_property
    def speakers(self) -> PackedTexts:
        """Names of the speakers."""
        return PackedTexts(self.arrays["speaker_end"], self.arrays["speaker_text"])

    @cached_property
    def shards(self) -> PackedTexts:
        """File names of the shards."""
        return PackedTexts(self.arrays["shard_end"], self.arrays["shard_text"])

    def characters(self) -> "dict[str, CharacterUse]":
        """Returns each character of the transcripts, and which clips have it."""
        columns = (self.arrays[name].tolist() for name in ("character", "character_clips", "character_first"))
        return {chr(code): CharacterUse(count, first) for code, count, first in zip(*columns, strict=True)}

    @cached_property
    def keys(self) -> PackedTexts:
        """Keys of the clips."""
        return PackedTexts(self.arrays["key_end"], self.arrays["key_text"])

    def _part(self, i: int, part: str) -> ClipPart:
        offset, size, crc32 = (int(self.arrays[f"{part}_{name}"][i]) for name in PartLocation._fields)
        return ClipPart(self.shards[int(self.arrays["shard"][i])], PartLocation(offset, size, crc32))


def _reopened(path: Path) -> FeatureIndex:
    """Opens an index that another process has checked."""
    return FeatureIndex(path, check=False)
