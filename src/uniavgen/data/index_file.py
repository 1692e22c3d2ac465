"""Arrays in one file that is memory-mapped, in the safetensors format, written column by column in pieces.

The library of that format writes only what is in memory twice over and copies what it reads; an index of 41 million
clips has 3 GB. The header also holds the CRC-32 of all arrays.
"""

import json
import mmap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from uniavgen.artifacts import atomic_file, check_regular_file, first_line, os_error_text
from uniavgen.errors import DataError

_TYPES: Final = {"U8": "u1", "U16": "<u2", "U32": "<u4", "I64": "<i8"}
_MAX_HEADER_BYTES: Final = 2**20
_PIECE_BYTES: Final = 2**22


def write_arrays(path: Path, arrays: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Writes arrays of one axis, each given in pieces, as a file that appears whole or not at all."""
    # The widest types first, so that every array begins at a multiple of its item.
    names = sorted(arrays, key=lambda name: (-arrays[name][0].itemsize, name))
    pieces = [np.ascontiguousarray(piece) for name in names for piece in arrays[name]]
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece.data.cast("B") if piece.size else b"", crc)
    entries: dict[str, object] = {"__metadata__": {"crc32": str(crc)}}
    kinds = {np.dtype(kind): name for name, kind in _TYPES.items()}
    end = 0
    for name in names:
        begin, end = end, end + sum(piece.nbytes for piece in arrays[name])
        length = sum(len(piece) for piece in arrays[name])
        entries[name] = {"dtype": kinds[arrays[name][0].dtype], "shape": [length], "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for piece in pieces:
            piece.tofile(file)


def map_arrays(path: Path, *, check: bool = True) -> dict[str, np.ndarray]:
    """Returns name to array, without reading more than the header into memory.

    check: whether the checksum is compared, for which the file is read through once. Raises DataError where the file is
    damaged.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            entries = json.loads(file.read(length))
            crc32 = int(entries.pop("__metadata__")["crc32"])
            if check and crc32 != _crc32(iter(lambda: file.read(_PIECE_BYTES), b"")):
                raise ValueError("wrong checksum")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return {
            name: np.frombuffer(
                mapped, _TYPES[entry["dtype"]], entry["shape"][0], 8 + length + entry["data_offsets"][0]
            )
            for name, entry in entries.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"the index {path} is damaged ({first_line(error)}); delete it, it is made again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os_error_text(error)}") from error


def _crc32(pieces: Iterable[bytes]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc
