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
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final

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
from uniavgen.data.storage import Storage, StoredFile
from uniavgen.errors import DataError, OutputError

_MAX_INDEX_BYTES: Final = 2**28
"""Of millions of samples."""
SHARD_BYTES: Final = 256 << 20
"""Of the samples of a full shard: held in memory while it is filled, and what a killed writer loses. [ours]"""
_SHARD_NAME: Final = re.compile(r"shard-(\d{6,})\.tar")


class ShardSet:
    """The samples of a folder of shards, or of one tar file, in the order they were written.

    Raises DataError for a folder without shards, a truncated tar, a key that occurs twice, and a part whose checksum
    is wrong.
    """

    def __init__(self, folder: str | Path, *, allow_empty: bool = False) -> None:
        self.folder = str(folder)
        self.storage = Storage(folder)
        listing = self.storage.list_files()
        self.shards = tuple(read_shard_index(self.storage, listing, file) for file in shard_files(listing))
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
        content = self.storage.read(shard.path, *location.span)
        if not location.matches(content):
            raise DataError(f"'{self.keys[i]}.{part}' in {shard.path} is damaged; make that shard again")
        return content

    def _check_keys(self) -> None:
        if len(self.positions) == len(self.keys):
            return
        key, count = Counter(self.keys).most_common(1)[0]
        raise repeated_key(key, count, self.folder, [shard.path for shard in self.shards if key in shard.keys])

    def _locate(self, i: int) -> tuple[ShardIndex, int]:
        """Returns the shard of sample `i` and its row there."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self.shards[number], i - int(self._starts[number])


def repeated_key(key: str, count: int, folder: str, paths: Sequence[str]) -> DataError:
    """Returns the error of a key that occurs `count` times in a folder, in the shards `paths`."""
    return DataError(
        f"the key '{key}' occurs {count} times in {folder}, first in {' and '.join(paths[:2])}; "
        "give every sample a key of its own"
    )


def shard_files(listing: Mapping[str, StoredFile]) -> list[StoredFile]:
    """Returns the tar files of a folder in the order of their names."""
    return [file for name, file in listing.items() if name.endswith(".tar")]


def read_shard_index(storage: Storage, listing: Mapping[str, StoredFile], shard: StoredFile) -> ShardIndex:
    """Returns where the samples of a shard lie, by the index beside it; a tar without one is read through.

    Raises DataError for a truncated tar, and for pipes, devices and folders, which could be read without end.
    """
    beside = listing.get(shard.name.removesuffix(".tar") + ".npz")
    for file in (shard, beside):
        if file is not None and not file.is_regular:
            raise DataError(f"{file.path} is no regular file, expected a shard of `uniavgen synth` or `prepare`")
    if beside is None:
        index = storage.scan(shard.path, scan_tar)
    elif beside.size > _MAX_INDEX_BYTES:
        raise DataError(f"the index beside {shard.path} is damaged; delete it to have the tar scanned")
    else:
        index = read_index(shard.path, storage.read(beside.path))
    if shard.size < index.end:
        raise DataError(
            f"{shard.path} is truncated: {shard.size} bytes, expected at least {index.end}; make that shard again"
        )
    return index


class ShardWriter:
    """Appends samples to the shards of a local folder; one process at a time.

    Use as a context manager: leaving it, also by an error or Ctrl-C, writes the samples of the last shard, and the next
    writer fills that shard up. So the bytes of a folder do not depend on where its writing was interrupted or killed. A
    new folder in which nothing was written is removed. `keys` says which samples the folder already holds, for a caller
    that resumes. A shard is full with `samples_per_shard` samples, or with the one that makes up SHARD_BYTES.
    """

    def __init__(self, folder: str | Path, samples_per_shard: int = 64) -> None:
        self.folder = Path(folder)
        self.samples_per_shard = samples_per_shard
        self.keys: set[str] = set()
        self._number = 0
        self._samples: dict[str, dict[str, bytes]] = {}
        """Of the shard that is being filled, in memory: a tar file appears whole or not at all."""
        self._num_bytes = 0
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
        self._num_bytes += sum(map(len, parts.values()))
        if self._is_full(len(self._samples), self._num_bytes):
            self.finish_shard()

    def finish_shard(self) -> None:
        """Writes the samples since the last full shard; does nothing where there are none. Raises OutputError."""
        samples, self._samples, self._num_bytes = self._samples, {}, 0
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
        num_bytes = int(last.locations[..., 1].sum())
        if not self._is_full(len(last.keys), num_bytes):
            self._number, self._num_bytes = self._number - 1, num_bytes
            for key in last.keys:
                i = present.positions[key]
                self._samples[key] = {part: present.read(i, part) for part in present.parts(i)}

    def _is_full(self, num_samples: int, num_bytes: int) -> bool:
        return num_samples >= self.samples_per_shard or num_bytes >= SHARD_BYTES

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.tar"


def drop_samples(folder: Path, keys: Collection[str]) -> list[Path]:
    """Rewrites the shards of a local folder that hold samples of these keys, without them; returns these shards.

    A shard of which nothing is left is deleted. Each is replaced whole; a call that was killed can be made again.
    """
    rewritten = []
    with exclusive_output(folder):
        present = ShardSet(folder, allow_empty=True)
        for shard in present.shards:
            if not {*shard.keys} & {*keys}:
                continue
            path, remaining = Path(shard.path), [key for key in shard.keys if key not in keys]
            numbers = [present.positions[key] for key in remaining]
            samples = {present.keys[i]: {part: present.read(i, part) for part in present.parts(i)} for i in numbers}
            path.with_suffix(".npz").unlink(missing_ok=True)
            if samples:
                with atomic_file(path) as partial:
                    index = _write_tar(partial, samples)
                write_index(path.with_suffix(".npz"), index)
            else:
                path.unlink()
            rewritten.append(path)
    return rewritten


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
