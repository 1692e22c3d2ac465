"""Clips of a store, kept on the local disk: the least recently used go first.

fsspec's own caches do not fit: `filecache` and `simplecache` would copy a whole shard for one clip of it, and none of
them, nor `blockcache`, has a limit of size.
"""

import logging
import os
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from uniavgen.artifacts import os_error_text

logger = logging.getLogger(__name__)

_BIN_BYTES: Final = 256 << 20
_MAX_BINS: Final = 4096


@dataclass(kw_only=True)
class ClipCache:
    """A folder of at most `max_bytes`, shared by all processes of a machine.

    It consists of bins, of which each is emptied for itself, so that a write looks at some hundred files and not at all
    of them. Names hold the checksum of what was asked for, so that a clip that is made again has another name. Where
    the disk refuses, nothing is kept.
    """

    folder: Path
    max_bytes: int
    _is_refused: bool = False

    def get(self, name: str) -> bytes | None:
        """Returns what was kept under a name; None where there is nothing."""
        path = self._path(name)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return content

    def put(self, name: str, content: bytes) -> None:
        """Keeps a content, and deletes the contents of its bin that were not asked for the longest, where that is
        needed."""
        path, limit = self._path(name), self.max_bytes // self._num_bins
        if len(content) > limit or self._is_refused:
            return
        # Of another name in each process; rename makes it appear whole.
        partial = path.with_name(f".{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _shrink(path.parent, limit - len(content))
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            logger.warning("no clips are kept in %s: %s", self.folder, os_error_text(error))
            self._is_refused = True
            partial.unlink(missing_ok=True)

    @property
    def _num_bins(self) -> int:
        return min(max(self.max_bytes // _BIN_BYTES, 1), _MAX_BINS)

    def _path(self, name: str) -> Path:
        digest = sha256(name.encode()).hexdigest()
        return self.folder / f"{int(digest[:8], 16) % self._num_bins:03x}" / digest[:40]


def _shrink(folder: Path, max_bytes: int) -> None:
    """Deletes the files of a folder that were used longest ago, until the others fit."""
    with os.scandir(folder) as entries:
        files = [(status.st_mtime_ns, status.st_size, entry.path) for entry in entries if (status := _status(entry))]
    free = max_bytes - sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if free >= 0:
            return
        Path(path).unlink(missing_ok=True)
        free += size


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # Another process was faster.
        return None
