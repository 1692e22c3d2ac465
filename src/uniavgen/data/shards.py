"""WebDataset shards with a byte index: tar files for any WebDataset reader, read here by (shard, offset, size).

A folder holds `shard-000000.tar`, ... and beside each `shard-000000.npz` (keys, part names, offsets, sizes, CRC-32).
A shard appears whole or not at all, so an interrupted writer goes on where it stopped. Folders may be fsspec URLs to
read from. A sample is a key and its parts, `KEY.json`, `KEY.mp4`, ...; a part is named by its extension.
"""

import io
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from uniavgen.artifacts import atomic_file, publish
from uniavgen.errors import DataError

BLOCK = 512
"""Tar files are laid out in blocks of this many bytes."""


class ShardWriter:
    """Appends samples to the shards of a local folder.

    Use as a context manager: leaving it, also by an error or Ctrl-C, finishes the last shard with the samples that
    were written. `keys` says which samples the folder already holds, for a caller that resumes.
    """

    def __init__(self, folder: str | Path, samples_per_shard: int = 64) -> None:
        self.folder = Path(folder)
        self.samples_per_shard = samples_per_shard
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder {folder}: {error.strerror}; choose another") from None
        for leftover in self.folder.glob("*.partial"):
            leftover.unlink()
        present = ShardSet(str(folder), allow_empty=True)
        self.keys: set[str] = set(present.keys)
        self._number = len(present.shards)
        self._tar: tarfile.TarFile | None = None
        self._rows: list[tuple[str, dict[str, tuple[int, int, int]]]] = []

    def write(self, key: str, parts: Mapping[str, bytes]) -> None:
        """Append one sample; DataError on a key that is taken or that tar readers would split differently."""
        if not key or "." in key or "/" in key or len(key) > 80:
            raise DataError(f"a sample key is 1 to 80 characters without '.' and '/', got '{key}'")
        if key in self.keys:
            raise DataError(f"sample '{key}' is already in {self.folder}; keys must differ")
        tar = self._open()
        places = {}
        for name, content in sorted(parts.items()):
            header = tarfile.TarInfo(f"{key}.{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
            start = tar.offset - -(-len(content) // BLOCK) * BLOCK
            places[name] = (start, len(content), zlib.crc32(content))
        self.keys.add(key)
        self._rows.append((key, places))
        if len(self._rows) == self.samples_per_shard:
            self.finish_shard()

    def finish_shard(self) -> None:
        """Make what was written since the last shard visible as a shard; does nothing if that is nothing."""
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        _write_index(self._shard(".npz"), self._rows)
        self._rows = []
        publish(self._shard(".tar.partial"), self._shard(".tar"))
        self._number += 1

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish_shard()

    def _open(self) -> tarfile.TarFile:
        if self._tar is None:
            self._tar = tarfile.open(self._shard(".tar.partial"), "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        return self._tar

    def _shard(self, suffix: str) -> Path:
        return self.folder / f"shard-{self._number:06d}{suffix}"


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Where the parts of one shard's samples lie."""

    path: str
    """Of the tar file, in the file system of the folder."""
    keys: tuple[str, ...]
    names: tuple[str, ...]
    places: np.ndarray
    """int64 [samples, names, 3]: offset and size in bytes, CRC-32; offset -1 where a sample lacks a part."""


class ShardSet:
    """The samples of a folder of shards, in the order they were written.

    `read(i, part)` gives the bytes of one part. A tar without an index (one that others wrote) is scanned once. Raises
    DataError for a folder without shards, a truncated tar, and a part whose checksum is wrong.
    """

    def __init__(self, folder: str | Path, *, allow_empty: bool = False) -> None:
        self.folder = str(folder)
        paths = sorted(self._files.glob(f"{self._root}/*.tar"))
        if not paths and not allow_empty:
            raise DataError(f"no shards (*.tar) in {folder}; give a folder that `uniavgen synth` or `prepare` wrote")
        self.shards = tuple(self._index(path) for path in paths)
        self.keys = tuple(key for shard in self.shards for key in shard.keys)
        self._starts = np.cumsum([0, *(len(shard.keys) for shard in self.shards)])

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Key to sample number."""
        return {key: i for i, key in enumerate(self.keys)}

    def parts(self, i: int) -> tuple[str, ...]:
        """Names of the parts of sample `i`."""
        shard, row = self._locate(i)
        return tuple(name for name, place in zip(shard.names, shard.places[row], strict=True) if place[0] >= 0)

    def read(self, i: int, part: str) -> bytes:
        """Bytes of one part of sample `i`."""
        shard, row = self._locate(i)
        if part not in self.parts(i):
            raise DataError(f"sample '{self.keys[i]}' of {shard.path} has no part '{part}', only {self.parts(i)}")
        offset, size, checksum = (int(value) for value in shard.places[row, shard.names.index(part)])
        content = self._files.cat_file(shard.path, start=offset, end=offset + size)
        if len(content) != size or zlib.crc32(content) != checksum:
            raise DataError(f"'{self.keys[i]}.{part}' in {shard.path} is damaged; make that shard again")
        return content

    def __getstate__(self) -> dict[str, Any]:
        # File systems are made anew in each process: some are not fork safe.
        return {name: value for name, value in vars(self).items() if name not in ("_files", "_root")}

    @cached_property
    def _files(self) -> Any:
        from fsspec.core import url_to_fs

        return url_to_fs(self.folder)[0]

    @cached_property
    def _root(self) -> str:
        from fsspec.core import url_to_fs

        return url_to_fs(self.folder)[1]

    def _locate(self, i: int) -> tuple[ShardIndex, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self.shards[number], i - int(self._starts[number])

    def _index(self, path: str) -> ShardIndex:
        beside = path.removesuffix(".tar") + ".npz"
        if self._files.exists(beside):
            index = _read_index(path, self._files.cat_file(beside))
        else:
            with self._files.open(path) as file:
                index = _scan(path, file)
        end = int((index.places[..., 0] + index.places[..., 1]).max(initial=0))
        size = self._files.size(path)
        if size < end:
            raise DataError(f"{path} is truncated: {size} bytes, expected at least {end}; make that shard again")
        return index


def _write_index(path: Path, rows: list[tuple[str, dict[str, tuple[int, int, int]]]]) -> None:
    names = sorted({name for _, places in rows for name in places})
    table = np.array([[places.get(name, (-1, 0, 0)) for name in names] for _, places in rows], dtype=np.int64)
    with atomic_file(path) as partial:
        np.savez(partial, keys=np.array([key for key, _ in rows]), names=np.array(names), places=table)


def _read_index(path: str, content: bytes) -> ShardIndex:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            keys, names, places = data["keys"], data["names"], data["places"]
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the index beside {path} is damaged ({error}); delete it to have the tar scanned") from None
    return ShardIndex(path=path, keys=tuple(map(str, keys)), names=tuple(map(str, names)), places=places)


def _scan(path: str, file: Any) -> ShardIndex:
    rows: dict[str, dict[str, tuple[int, int, int]]] = {}
    try:
        with tarfile.open(fileobj=file) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None:
                    continue
                key, _, name = Path(member.name).name.partition(".")
                rows.setdefault(key, {})[name] = (member.offset_data, member.size, zlib.crc32(content.read()))
            # tarfile takes an archive that ends inside a header for complete.
            if file.seek(0, io.SEEK_END) - tar.offset < BLOCK:
                raise EOFError("it lacks the closing blocks")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is no whole tar file ({error}); make that shard again") from None
    names = tuple(sorted({name for places in rows.values() for name in places}))
    table = [[places.get(name, (-1, 0, 0)) for name in names] for places in rows.values()]
    places = np.array(table, dtype=np.int64).reshape(len(rows), len(names), 3)
    return ShardIndex(path=path, keys=tuple(rows), names=names, places=places)
