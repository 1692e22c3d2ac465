"""Features: what the frozen codecs make of a sample, once, in shards of their own with the same keys.

Training never decodes media. Of a clip it reads `KEY.safetensors` (video latents, normalised mel, the face mask on the
token grid, caption features, all float16) and `KEY.json` (transcript, word times, speaker): about 130 kB at nano size.

Letters: F pixel frames, c latent channels, f latent frames, h w latent grid, l audio tokens, n video tokens a frame,
m caption tokens, d caption width.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from uniavgen.artifacts import parse_json
from uniavgen.data.clip_reader import CacheConfig, ClipReader
from uniavgen.data.index_builder import EMPTY_CAPTION, FACTS_PART, TENSORS_PART
from uniavgen.data.open_index import open_feature_index
from uniavgen.data.storage import Storage, StoredFile
from uniavgen.data.words import Word
from uniavgen.errors import DamagedClipError, DataError

SETTINGS_FILE: Final = "features.json"
"""Beside the shards: what the features are made with."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """One clip as training reads it. The video's part is None for speech alone."""

    key: str
    text: str
    speaker: str
    words: tuple[Word, ...]
    mel: Float[Tensor, "l mel"]
    """Normalised log-mel of the peak-normalised sound."""
    latents: Float[Tensor, "c f h w"] | None = None
    face_mask: Float[Tensor, "f n"] | None = None
    """Share of each token's pixels and frames that the face covers."""
    mouth_opening: Float[Tensor, " F"] | None = None
    """Distance of the inner lips over face height in each pixel frame."""
    caption: Float[Tensor, "m d"] | None = None

    def to_parts(self) -> dict[str, bytes]:
        """Returns the parts of a shard's sample."""
        tensors = {name: getattr(self, name) for name in ("mel", "latents", "face_mask", "mouth_opening", "caption")}
        halves = {name: value.to(torch.float16).contiguous() for name, value in tensors.items() if value is not None}
        facts = {"text": self.text, "speaker": self.speaker, "words": [asdict(word) for word in self.words]}
        return {"json": json.dumps(facts).encode(), "safetensors": save_tensors(halves)}


class FeatureSet:
    """The features of a folder of shards, or of an fsspec URL, read clip by clip through its index.

    May be used in forked and in spawned processes.
    """

    def __init__(self, folder: str | Path, cache: CacheConfig | None = None) -> None:
        self.cache = cache or CacheConfig()
        self.folder = str(folder)
        self.storage = Storage(folder)
        listing = self.storage.list_files()
        self.index = open_feature_index(self.storage, listing, self.cache.folder)
        self.settings = self._recorded(listing)
        """What `uniavgen prepare` has noted of its options and codecs; empty for features of other origin."""
        self._free_bytes = self.cache.memory_bytes
        self._memory: dict[int, Features] = {}
        self._read = ClipReader(storage=self.storage, index=self.index, cache=self.cache)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Features:
        """Reads a clip. Raises DamagedClipError where it is damaged, DataError where it cannot be reached."""
        if i in self._memory:
            return self._memory[i]
        facts, tensors = self._read(i)
        features = self._parsed(i, facts, tensors)
        if self._free_bytes >= len(tensors):
            self._free_bytes -= len(tensors)
            self._memory[i] = features
        return features

    def _recorded(self, listing: Mapping[str, StoredFile]) -> dict[str, Any]:
        file = listing.get(SETTINGS_FILE)
        return {} if file is None else parse_json(self.storage.read(file.path), file.path)

    def readable_clips(self) -> Iterator[Features]:
        """Yields the clips in their order, without damaged ones."""
        for i in range(len(self)):
            with suppress(DamagedClipError):
                yield self[i]

    @cached_property
    def example(self) -> Features:
        """The first clip that can be read. Raises DataError where none can."""
        for clip in self.readable_clips():
            return clip
        raise DataError(f"none of the {len(self)} clips in {self.folder} can be read; prepare them again")

    @cached_property
    def empty_caption(self) -> Float[Tensor, "m d"] | None:
        """Returns the features of the empty caption; None where the set is of speech alone."""
        part = self.index.empty_caption
        if part is None:
            return None
        content = self.storage.read(self.storage.path(part.shard), *part.location.span)
        if not part.location.matches(content):
            raise DataError(f"'{EMPTY_CAPTION}.{TENSORS_PART}' in {part.shard} is damaged; make that shard again")
        return load_tensors(content)["caption"]

    def _parsed(self, i: int, facts_content: bytes, content: bytes) -> Features:
        key = self.index.key(i)
        facts = parse_json(facts_content, f"'{key}.{FACTS_PART}' in {self.folder}", DamagedClipError)
        try:
            words = tuple(Word(**word) for word in facts["words"])
            return Features(key=key, text=facts["text"], speaker=facts["speaker"], words=words, **load_tensors(content))
        except (KeyError, TypeError, SafetensorError) as error:
            raise DamagedClipError(f"'{key}' in {self.folder} holds no features; prepare it again") from error
