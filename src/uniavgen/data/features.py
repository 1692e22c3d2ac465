"""The feature cache: what frozen codecs make of a sample, once, in shards of their own with the same keys.

Training never decodes media: it reads video latents, normalised mel, the face mask on the token grid, and caption
features, all float16, with the transcript beside them. About 130 kB a sample at nano size.

Letters: F pixel frames, c latent channels, f latent frames, h w latent grid, l audio tokens, n video tokens a frame,
m caption tokens, d caption width.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from uniavgen.data.shards import ShardSet
from uniavgen.data.words import Word


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
        """Parts of a shard's sample."""
        tensors = {name: getattr(self, name) for name in ("mel", "latents", "face_mask", "mouth_opening", "caption")}
        halves = {name: value.to(torch.float16).contiguous() for name, value in tensors.items() if value is not None}
        facts = {"text": self.text, "speaker": self.speaker, "words": [asdict(word) for word in self.words]}
        return {"json": json.dumps(facts).encode(), "safetensors": save_tensors(halves)}


EMPTY_CAPTION = "empty-caption"
"""Key of the sample that holds the features of the empty caption, which dropped texts are replaced by."""


class FeatureSet:
    """The features of a folder of shards, kept in memory once read while they fit into `memory_bytes`."""

    def __init__(self, folder: str, memory_bytes: int = 4 << 30) -> None:
        self.shards = ShardSet(folder)
        self._free = memory_bytes
        self._kept: dict[int, Features] = {}
        self.numbers = tuple(i for i, key in enumerate(self.shards.keys) if key != EMPTY_CAPTION)
        """Shard sample numbers of the clips."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: int) -> Features:
        if i in self._kept:
            return self._kept[i]
        number = self.numbers[i]
        facts = json.loads(self.shards.read(number, "json"))
        content = self.shards.read(number, "safetensors")
        features = Features(
            key=self.shards.keys[number],
            text=facts["text"],
            speaker=facts["speaker"],
            words=tuple(Word(**word) for word in facts["words"]),
            **load_tensors(content),
        )
        if self._free >= len(content):
            self._free -= len(content)
            self._kept[i] = features
        return features

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Speaker of each clip, without reading its tensors."""
        return tuple(json.loads(self.shards.read(number, "json"))["speaker"] for number in self.numbers)

    @cached_property
    def empty_caption(self) -> Float[Tensor, "m d"] | None:
        """Features of the empty caption; None where the set is of speech alone."""
        number = self.shards.positions.get(EMPTY_CAPTION)
        return None if number is None else load_tensors(self.shards.read(number, "safetensors"))["caption"]
