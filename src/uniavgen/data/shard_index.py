"""Where the parts of a shard's samples lie in its tar file: stored beside the tar, or found by reading through it."""

import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int64

from uniavgen.artifacts import atomic_file, decode_npz, first_line
from uniavgen.errors import DataError

TAR_BLOCK_BYTES: Final = 512
"""Tar files are laid out in blocks of this many bytes."""
# As WebDataset splits names: the folder belongs to the key, and the file's name is cut at its first period.
_MEMBER_NAME: Final = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<part>[^/]+)", re.DOTALL)


class PartLocation(NamedTuple):
    """Where the content of one part lies in a tar file."""

    offset: int
    size: int
    crc32: int

    @property
    def span(self) -> tuple[int, int]:
        """First byte, and the one behind the last."""
        return self.offset, self.offset + self.size

    def matches(self, content: bytes) -> bool:
        """Returns whether what was read has the size and the checksum of the part."""
        return len(content) == self.size and zlib.crc32(content) == self.crc32


_MAX_TAR_BYTES: Final = 2**62
"""So that offset plus size is a number of 64 bits."""
_MISSING: Final = PartLocation(offset=-1, size=0, crc32=0)


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The samples of one shard and where their parts lie."""

    path: str
    """Of the tar file, in the file system of its folder."""
    keys: tuple[str, ...]
    names: tuple[str, ...]
    """Names of all parts that occur."""
    locations: Int64[np.ndarray, "samples names 3"]
    """A PartLocation for each part; its offset is -1 where a sample lacks the part."""

    @classmethod
    def from_samples(cls, path: str, samples: Mapping[str, Mapping[str, PartLocation]]) -> "ShardIndex":
        """Returns the index of samples, given by key and name of the part."""
        names = tuple(sorted({name for parts in samples.values() for name in parts}))
        rows = [[parts.get(name, _MISSING) for name in names] for parts in samples.values()]
        locations = np.array(rows, dtype=np.int64).reshape(len(samples), len(names), 3)
        return cls(path=path, keys=tuple(samples), names=names, locations=locations)

    def parts(self, row: int) -> dict[str, PartLocation]:
        """Returns the parts of the sample in a row."""
        locations = zip(self.names, self.locations[row].tolist(), strict=True)
        return {name: PartLocation(*location) for name, location in locations if location[0] >= 0}

    @property
    def end(self) -> int:
        """Returns how many bytes the tar file has at least."""
        return int((self.locations[..., 0] + self.locations[..., 1]).max(initial=0))


def split_member_name(name: str) -> tuple[str, str] | None:
    """Splits the name of a tar member into the key of its sample and the name of its part, in lower case.

    `x/0001.seg.mp4` is the part `seg.mp4` of the sample `x/0001`. Returns None for what belongs to no sample: names
    without a period or that begin with one.
    """
    match = _MEMBER_NAME.fullmatch(re.sub(r"^(?:\.?/)+", "", name))
    return match and (match["key"], match["part"].lower())


def is_sample_key(key: str) -> bool:
    """Returns whether tar readers take a text as the key of a sample, and none as a path out of its folder."""
    return split_member_name(f"{key}.x") == (key, "x") and ".." not in key.split("/")


def write_index(path: Path, index: ShardIndex) -> None:
    """Writes an index as npz: keys, names, places."""
    with atomic_file(path) as partial:
        np.savez(partial, keys=np.array(index.keys), names=np.array(index.names), places=index.locations)


def read_index(path: str, content: bytes) -> ShardIndex:
    """Reads the index that is stored beside the tar file `path`. Raises DataError where it is damaged."""
    arrays = decode_npz(content, f"the index beside {path}")
    keys, names, locations = (arrays.get(name, np.empty(0)) for name in ("keys", "names", "places"))
    if not (_are_keys(keys) and _are_part_names(names) and _are_locations(locations, (len(keys), len(names), 3))):
        raise DataError(f"the index beside {path} is damaged; delete it to have the tar scanned")
    return ShardIndex(path=path, keys=tuple(map(str, keys)), names=tuple(map(str, names)), locations=locations)


def _are_keys(keys: np.ndarray) -> bool:
    return _are_different_texts(keys) and all(is_sample_key(key) for key in keys.tolist())


def _are_part_names(names: np.ndarray) -> bool:
    return _are_different_texts(names) and all(split_member_name(f"x.{name}") == ("x", name) for name in names.tolist())


def _are_different_texts(array: np.ndarray) -> bool:
    # numpy calls an empty list one of numbers.
    return array.ndim == 1 and (array.dtype.kind == "U" or not array.size) and len(set(array.tolist())) == len(array)


def _are_locations(array: np.ndarray, shape: tuple[int, int, int]) -> bool:
    return (
        array.shape == shape
        and array.dtype == np.int64
        and bool((array >= (_MISSING.offset, 0, 0)).all() and (array < _MAX_TAR_BYTES).all())
    )


def scan_tar(path: str, file: Any) -> ShardIndex:
    """Reads through a tar file without an index, which is open as a binary file of the system or of fsspec.

    Raises DataError where it is cut off or compressed, or where a sample is in it twice.
    """
    samples: dict[str, dict[str, PartLocation]] = {}
    try:
        # "r:" reads no compressed files, in which a part has no place of its own.
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                split = split_member_name(member.name)
                if split is None or not (member.isreg() or member.islnk()):
                    continue
                key, name = split
                if not is_sample_key(key):
                    raise DataError(f"{path} holds '{member.name}', which leads out of its folder; rename it")
                if name in samples.setdefault(key, {}):
                    raise DataError(f"{path} holds '{key}.{name}' twice; give every sample a key of its own")
                samples[key][name] = _location(tar, member)
            # tarfile takes an archive that ends inside a header for complete.
            if file.seek(0, io.SEEK_END) - tar.offset < TAR_BLOCK_BYTES:
                raise EOFError("it lacks the closing blocks")
    except (tarfile.TarError, EOFError) as error:
        file.seek(0)
        if file.read(2) == b"\x1f\x8b":
            raise DataError(f"{path} is compressed, expected a plain tar file; unpack it with gunzip") from error
        raise DataError(f"{path} is no whole tar file ({first_line(error)}); make that shard again") from error
    return ShardIndex.from_samples(path, samples)


def _location(tar: tarfile.TarFile, member: tarfile.TarInfo) -> PartLocation:
    """Returns where the content of a member lies; that of a hard link is the file it names."""
    while member.islnk():
        try:
            member = tar.getmember(member.linkname)
        except KeyError as error:
            raise EOFError(f"{member.name} links to a file that is missing") from error
    content = tar.extractfile(member)
    assert content is not None
    crc32 = 0
    while block := content.read(1 << 20):
        crc32 = zlib.crc32(block, crc32)
    return PartLocation(offset=member.offset_data, size=member.size, crc32=crc32)
