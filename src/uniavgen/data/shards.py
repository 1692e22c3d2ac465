"""Samples on disk, in the WebDataset format: tar files, read here by (shard, offset, size) through an index.

A folder holds shards `shard-000000.tar`, ... (or any `*.tar` of others). A sample is a key and its parts, the files
`KEY.json`, `KEY.mp4`, ... of a tar; a part is named by its extension in lower case, and a folder in the tar belongs to
the key. What the parts mean is said in `data.sample` (clips) and `data.features` (what training reads).

Beside each shard that is written here lies `shard-000000.npz`: keys, part names, offsets, sizes, CRC-32. A tar without
one is read through once. Folders may be fsspec URLs to read from.
"""

import io
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final

import numpy as np

from uniavgen.artifacts import atomic_file, exclusive_output, os_error_text
from uniavgen.data.shard_index import (
    TAR_BLOCK_BYTES,
    PartLocation,
    ShardIndex,
    is_sample_key,
    read_index,
    scan_tar,
    write_index,
)
from uniavgen.errors import DataError, OutputError

_MAX_INDEX_BYTES: Final = 2**28
"""Of millions of samples."""
_SHARD_NAME: Final = re.compile(r"shard-(\d{6,})\.tar")


class ShardSet:
    """The samples of a folder of shards, or of one tar file, in the order they were written.

    Raises DataError for a folder without shards, a truncated tar, a key that occurs twice, and a part whose checksum
    is wrong.
    """

    def __init__(self, folder: str | Path, *, allow_empty: bool = False) -> None:
        self.folder = str(folder)
        try:
            self.shards = tuple(self._index(path) for path in self._shard_paths())
        except OSError as error:
            raise DataError(f"the shards in {folder} cannot be read: {os_error_text(error)}") from error
        if not self.shards and not allow_empty:
            raise DataError(f"no shards (*.tar) in {folder}; give a folder that `uniavgen synth` or `prepare` wrote")
        self.keys = tuple(key for shard in self.shards for key in shard.keys)
        self._starts = np.cumsum([0, *(len(shard.keys) for shard in self.shards)])
        self._check_keys()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Returns the number of each key's sample."""
        return {key: i for i, key in enumerate(self.keys)}

    def parts(self, i: int) -> tuple[str, ...]:
        """Returns the names of the parts of sample `i`."""
        shard, row = self._locate(i)
        return tuple(shard.parts(row))

    def read(self, i: int, part: str) -> bytes:
        """Returns the bytes of one part of sample `i`."""
        shard, row = self._locate(i)
        location = shard.parts(row).get(part)
        if location is None:
            raise DataError(f"sample '{self.keys[i]}' of {shard.path} has no part '{part}', only {self.parts(i)}")
        end = location.offset + location.size
        try:
            content = self._files.cat_file(shard.path, start=location.offset, end=end)
        except OSError as error:
            raise DataError(f"{shard.path} cannot be read: {os_error_text(error)}") from error
        if len(content) != location.size or zlib.crc32(content) != location.crc32:
            raise DataError(f"'{self.keys[i]}.{part}' in {shard.path} is damaged; make that shard again")
        return content

    def __getstate__(self) -> dict[str, Any]:
        # File systems are made anew in each process: some are not fork safe.
        return {name: value for name, value in vars(self).items() if name != "_file_system"}

    @cached_property
    def _file_system(self) -> tuple[Any, str]:
        """Returns the fsspec file system and the folder's path in it."""
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.folder)
        except (ValueError, ImportError) as error:
            raise DataError(f"{self.folder} cannot be opened ({error}); give a folder or a URL of fsspec") from error

    @property
    def _files(self) -> Any:
        return self._file_system[0]

    def _shard_paths(self) -> list[str]:
        root = self._file_system[1]
        if root.endswith(".tar") and self._files.isfile(root):
            return [root]
        return sorted(self._files.glob(f"{root}/*.tar"))

    def _check_keys(self) -> None:
        if len(self.positions) == len(self.keys):
            return
        key, count = Counter(self.keys).most_common(1)[0]
        paths = [shard.path for shard in self.shards if key in shard.keys][:2]
        raise DataError(
            f"the key '{key}' occurs {count} times in {self.folder}, first in {' and '.join(paths)}; "
            "give every sample a key of its own"
        )

    def _locate(self, i: int) -> tuple[ShardIndex, int]:
        """Returns the shard of sample `i` and its row there."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self.shards[number], i - int(self._starts[number])

    def _index(self, path: str) -> ShardIndex:
        beside = path.removesuffix(".tar") + ".npz"
        size = self._file_size(path)
        if self._files.exists(beside):
            if self._file_size(beside) > _MAX_INDEX_BYTES:
                raise DataError(f"the index beside {path} is damaged; delete it to have the tar scanned")
            index = read_index(path, self._files.cat_file(beside))
        else:
            with self._files.open(path) as file:
                index = scan_tar(path, file)
        if size < index.end:
            raise DataError(f"{path} is truncated: {size} bytes, expected at least {index.end}; make that shard again")
        return index

    def _file_size(self, path: str) -> int:
        """Returns the bytes of a file. Raises DataError for a pipe, a device or a folder, which could be read without
        end."""
        info = self._files.info(path)
        if info["type"] != "file":
            raise DataError(f"{path} is no regular file, expected a shard of `uniavgen synth` or `prepare`")
        return info["size"]


class ShardWriter:
    """Appends samples to the shards of a local folder; one process at a time.

    Use as a context manager: leaving it, also by an error or Ctrl-C, writes the samples of the last shard, and the next
    writer fills that shard up. So the bytes of a folder do not depend on where its writing was interrupted or killed. A
    new folder in which nothing was written is removed. `keys` says which samples the folder already holds, for a caller
    that resumes.
    """

    def __init__(self, folder: str | Path, samples_per_shard: int = 64) -> None:
        self.folder = Path(folder)
        self.samples_per_shard = samples_per_shard
        self.keys: set[str] = set()
        self._number = 0
        self._samples: dict[str, dict[str, bytes]] = {}
        """Of the shard that is being filled, in memory: a tar file appears whole or not at all."""
        self._is_changed = False
        self._stack = ExitStack()

    def __enter__(self) -> "ShardWriter":
        with self._stack:
            self._stack.enter_context(exclusive_output(self.folder))
            if not self.folder.exists():
                self._stack.callback(_remove_empty, self.folder)
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self.finish_shard()

    def write(self, key: str, parts: Mapping[str, bytes]) -> None:
        """Appends one sample. Raises DataError for a key that is taken or that tar readers would split differently."""
        if not is_sample_key(key):
            raise DataError(f"a sample key has a name without '.' behind its folders, got '{key}'")
        if key in self.keys:
            raise DataError(f"sample '{key}' is already in {self.folder}; keys must differ")
        self.keys.add(key)
        self._samples[key] = dict(sorted(parts.items()))
        self._is_changed = True
        if len(self._samples) == self.samples_per_shard:
            self.finish_shard()

    def finish_shard(self) -> None:
        """Writes the samples since the last full shard; does nothing where there are none. Raises OutputError."""
        samples, self._samples = self._samples, {}
        if not samples or not self._is_changed:
            return
        self._is_changed = False
        path = self._shard_path(self._number)
        # A shard without an index is read through, one with an old index is damaged.
        path.with_suffix(".npz").unlink(missing_ok=True)
        with atomic_file(path) as partial:
            index = _write_tar(partial, samples)
        write_index(path.with_suffix(".npz"), index)
        self._number += 1

    def _open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.partial.*"):
                leftover.unlink()
        except OSError as error:
            raise OutputError(
                f"the folder {self.folder} cannot be used: {os_error_text(error)}; choose another"
            ) from error
        present = ShardSet(self.folder, allow_empty=True)
        self.keys = set(present.keys)
        numbers = {int(match[1]): shard for shard in present.shards if (match := _match_shard(shard.path))}
        self._number = max(numbers, default=-1) + 1
        if not numbers:
            return
        last = numbers[self._number - 1]
        index_path = self._shard_path(self._number - 1).with_suffix(".npz")
        if not index_path.exists():
            write_index(index_path, last)
        if len(last.keys) < self.samples_per_shard:
            self._number -= 1
            for key in last.keys:
                i = present.positions[key]
                self._samples[key] = {part: present.read(i, part) for part in present.parts(i)}

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.tar"


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _match_shard(path: str) -> re.Match[str] | None:
    return _SHARD_NAME.fullmatch(PurePosixPath(path).name)


def _write_tar(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> ShardIndex:
    """Writes a tar file that depends on nothing but the samples, and returns its index."""
    locations: dict[str, dict[str, PartLocation]] = {}
    # Like USTAR, with extra headers only for long names and for letters beyond ASCII.
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, parts in samples.items():
            locations[key] = {}
            for name, content in parts.items():
                header = tarfile.TarInfo(f"{key}.{name}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
                offset = tar.offset - -(-len(content) // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
                locations[key][name] = PartLocation(offset=offset, size=len(content), crc32=zlib.crc32(content))
    return ShardIndex.from_samples(str(path), locations)
