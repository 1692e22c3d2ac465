"""Reads the bytes of clips, checks them, and keeps those of a store on the local disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uniavgen.data.clip_cache import ClipCache
from uniavgen.data.feature_index import ClipPart, FeatureIndex
from uniavgen.data.index_builder import FACTS_PART, TENSORS_PART
from uniavgen.data.storage import Storage
from uniavgen.errors import DamagedClipError

_ADJACENT_BYTES: Final = 4096
"""Facts and tensors of a clip that lie closer together are read at once."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where features are kept that were read before."""

    memory_bytes: int = 4 << 30
    """In the memory of this process."""
    folder: Path = Path.home() / ".cache" / "uniavgen" / "features"
    """On the local disk, for what lies in a store: indexes and clips."""
    disk_bytes: int = 20 << 30
    """Of the clips on the local disk."""


@dataclass(frozen=True, kw_only=True)
class ClipReader:
    """Reads clips of a feature set by their numbers."""

    storage: Storage
    index: FeatureIndex
    cache: CacheConfig

    def __call__(self, i: int) -> tuple[bytes, bytes]:
        """Returns the facts and the tensors of a clip. Raises DamagedClipError where they are not what was written."""
        parts = {FACTS_PART: self.index.facts(i), TENSORS_PART: self.index.tensors(i)}
        facts, tensors = parts.values()
        name = f"{self.storage.url} {facts} {tensors}"
        cached = None if self.storage.is_local else self._disk.get(name)
        if cached is not None:
            contents = cached[: facts.location.size], cached[facts.location.size :]
            if facts.location.matches(contents[0]) and tensors.location.matches(contents[1]):
                return contents
        damaged = ""
        # A transfer may be cut off or spoilt; a local file is what it is.
        for _ in range(1 if self.storage.is_local else 2):
            contents = self._read(facts, tensors)
            checked = zip(parts.items(), contents, strict=True)
            damaged = next((part for (part, place), content in checked if not place.location.matches(content)), None)
            if damaged is None:
                if not self.storage.is_local:
                    self._disk.put(name, b"".join(contents))
                return contents
        raise DamagedClipError(
            f"'{self.index.key(i)}.{damaged}' in {self.storage.path(facts.shard)} is damaged; make that shard again"
        )

    @property
    def _disk(self) -> ClipCache:
        return ClipCache(folder=self.cache.folder, max_bytes=self.cache.disk_bytes)

    def _read(self, facts: ClipPart, tensors: ClipPart) -> tuple[bytes, bytes]:
        path, (start, end), (second_start, stop) = (
            self.storage.path(facts.shard),
            facts.location.span,
            tensors.location.span,
        )
        if 0 <= second_start - end <= _ADJACENT_BYTES:
            content = self.storage.read(path, start, stop)
            return content[: end - start], content[second_start - start :]
        first, second = self.storage.read_ranges(path, [(start, end), (second_start, stop)])
        return first, second
