"""Damage of bytes, and other things than a file in the place of one, drawn by a `random.Random`."""

import os
import random
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from oddities import LENGTHS, MAGICS, SPECIAL_FILES

Bytes = tuple[str, bytes]


def damaged_bytes(rng: random.Random, data: bytes) -> Bytes:
    """Returns a damaged copy."""
    operation = rng.choice(_BYTE_DAMAGE)
    changed = bytearray(data)
    where = operation(rng, changed)
    return f"{operation.__name__.strip('_').replace('_', ' ')} {where}".strip(), bytes(changed)


def _emptied(rng: random.Random, data: bytearray) -> str:
    data.clear()
    return ""


def _cut(rng: random.Random, data: bytearray) -> str:
    somewhere = rng.randrange(len(data) + 1)
    del data[max(rng.choice((1, 7, 8, 64, 511, 512, len(data) - 1, somewhere, somewhere, somewhere)), 0) :]
    return f"to {len(data)} bytes"


def _bits_flipped(rng: random.Random, data: bytearray) -> str:
    places = sorted(rng.randrange(len(data)) for _ in range(rng.choice((1, 2, 8, 64)))) if data else []
    for place in places:
        data[place] ^= 1 << rng.randrange(8)
    return f"at {places[:3]}"


def _head_damaged(rng: random.Random, data: bytearray) -> str:
    places = [rng.randrange(min(len(data), 200)) for _ in range(rng.choice((1, 3, 9)))] if data else []
    for place in places:
        data[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return f"at {places[:3]}"


def _length_written(rng: random.Random, data: bytearray) -> str:
    pattern = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(pattern)
    place = rng.randrange(max(min(len(data) - size, rng.choice((64, 64, 4096, 10**9))), 1))
    value = rng.choice(LENGTHS) & (2 ** (8 * size) - 1)
    data[place : place + size] = struct.pack(pattern, value)
    return f"{value} at {place}"


def _block_filled(rng: random.Random, data: bytearray) -> str:
    start, size = rng.randrange(len(data) + 1), rng.choice((4, 100, 5000))
    value = rng.choice((0, 0xFF, None))
    block = rng.randbytes(size) if value is None else bytes([value]) * size
    data[start : start + size] = block[: max(len(data) - start, 0)]
    return f"{size} bytes at {start}"


def _block_deleted(rng: random.Random, data: bytearray) -> str:
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 13, 4096))
    del data[start : start + size]
    return f"{size} bytes at {start}"


def _block_inserted(rng: random.Random, data: bytearray) -> str:
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 13, 4096))
    data[start:start] = rng.randbytes(size)
    return f"{size} bytes at {start}"


def _block_repeated(rng: random.Random, data: bytearray) -> str:
    start, size = rng.randrange(len(data) + 1), rng.choice((16, 512, 10_000))
    data[start:start] = data[start : start + size]
    return f"{size} bytes at {start}"


def _halves_swapped(rng: random.Random, data: bytearray) -> str:
    place = rng.randrange(len(data) + 1)
    data[:] = data[place:] + data[:place]
    return f"at {place}"


def _rubbish_appended(rng: random.Random, data: bytearray) -> str:
    data += rng.choice((b"\n", b"\0" * 512, rng.randbytes(1000), bytes(data)))
    return ""


def _other_magic(rng: random.Random, data: bytearray) -> str:
    magic = rng.choice(MAGICS)
    data[: rng.choice((0, len(magic)))] = magic
    return repr(magic[:8])


def _rubbish(rng: random.Random, data: bytearray) -> str:
    noise = rng.randbytes(rng.choice((1, 8, 100, 10_000)))
    data[:] = rng.choice((noise, b"\0" * 5000, b"A letter.\n" * 100, b"<html>" * 9))
    return repr(bytes(data[:12]))


def _recoded(rng: random.Random, data: bytearray) -> str:
    text, encoding = data.decode("latin-1"), rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7", "cp037"))
    data[:] = text.encode(encoding, errors="replace")
    return encoding


_BYTE_DAMAGE: tuple[Callable[[random.Random, bytearray], str], ...] = (
    *(_emptied, _cut, _cut, _cut, _bits_flipped, _bits_flipped, _head_damaged, _head_damaged, _length_written),
    *(_length_written, _block_filled, _block_filled, _block_deleted, _block_inserted, _block_repeated),
    *(_halves_swapped, _rubbish_appended, _other_magic, _rubbish, _recoded),
)


def damaged_file(rng: random.Random, path: Path) -> str:
    """Damages the bytes of a file, or puts something else in its place; returns what was done."""
    if rng.random() < 0.25:
        return special_file(rng, path)
    what, data = damaged_bytes(rng, path.read_bytes())
    path.write_bytes(data)
    return what


def special_file(rng: random.Random, path: Path) -> str:
    """Puts something that is no regular file, or none at all, in the place of a file or folder."""
    kind = rng.choice(SPECIAL_FILES)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to itself":
            path.symlink_to(path.name)
        case "link to nothing":
            path.symlink_to("nothing")
        case "link to its folder":
            path.symlink_to(path.parent)
        case "link to /dev/zero" | "link to /dev/null":
            path.symlink_to(kind.removeprefix("link to "))
        case "socket":
            # A socket's path is short: it is made under a relative name, and gets its own one then.
            before = Path.cwd()
            os.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind("socket")
            Path("socket").rename(path.name)
            os.chdir(before)
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**36)
        case "unreadable":
            path.write_bytes(b"x")
            path.chmod(0)
    return kind
