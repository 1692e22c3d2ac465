"""Features: what the frozen codecs make of a sample, once, in shards of their own with the same keys.

Training never decodes media. Of a clip it reads `KEY.safetensors` (video latents, normalised mel, the face mask on the
token grid, caption features, all float16) and `KEY.json` (transcript, word times, speaker): about 130 kB at nano size.

Letters: F pixel frames, c latent channels, f latent frames, h w latent grid, l audio tokens, n video tokens a frame,
m caption tokens, d caption width.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from uniavgen.artifacts import parse_json
from uniavgen.data.shards import ShardSet
from uniavgen.data.words import Word
from uniavgen.errors import DataError


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


EMPTY_CAPTION = "empty-caption"
"""Key of the sample that holds the features of the empty caption, which replaces dropped captions."""


class FeatureSet:
    """The features of a folder of shards. What was read stays in memory while it fits into `memory_bytes`."""

    def __init__(self, folder: str | Path, memory_bytes: int = 4 << 30) -> None:
        self.folder = str(folder)
        self.shards = ShardSet(folder)
        self._free_bytes = memory_bytes
        self._cache: dict[int, Features] = {}
        self.numbers = tuple(i for i, key in enumerate(self.shards.keys) if key != EMPTY_CAPTION)
        """Shard sample numbers of the clips."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> Features:
        if i in self._cache:
            return self._cache[i]
        number = self.numbers[i]
        text, speaker, words = self._facts(number)
        content = self.shards.read(number, "safetensors")
        features = Features(
            key=self.shards.keys[number], text=text, speaker=speaker, words=words, **self._tensors(number, content)
        )
        if self._free_bytes >= len(content):
            self._free_bytes -= len(content)
            self._cache[i] = features
        return features

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Returns the speaker of each clip, without reading its tensors."""
        return tuple(self._facts(number)[1] for number in self.numbers)

    @cached_property
    def empty_caption(self) -> Float[Tensor, "m d"] | None:
        """Returns the features of the empty caption; None where the set is of speech alone."""
        number = self.shards.positions.get(EMPTY_CAPTION)
        return None if number is None else self._tensors(number, self.shards.read(number, "safetensors"))["caption"]

    def transcripts(self) -> Iterator[tuple[str, str]]:
        """Yields key and transcript of each clip, without reading its tensors."""
        return ((self.shards.keys[number], self._facts(number)[0]) for number in self.numbers)

    def _facts(self, number: int) -> tuple[str, str, tuple[Word, ...]]:
        """Returns transcript, speaker and words. Raises DataError where the sample does not hold features."""
        facts = parse_json(self.shards.read(number, "json"), f"'{self.shards.keys[number]}.json'")
        try:
            return facts["text"], facts["speaker"], tuple(Word(**word) for word in facts["words"])
        except (KeyError, TypeError) as error:
            raise self._no_features(number) from error

    def _tensors(self, number: int, content: bytes) -> dict[str, Tensor]:
        try:
            return load_tensors(content)
        except SafetensorError as error:
            raise self._no_features(number) from error

    def _no_features(self, number: int) -> DataError:
        return DataError(
            f"sample '{self.shards.keys[number]}' in {self.folder} does not hold features; give a folder of "
            "`uniavgen prepare`"
        )
