"""ICC profiles of a few hundred bytes, and what they mean in closed form."""

import struct

import numpy as np

SRGB_TO_XYZ = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
"""Primaries of sRGB, adapted to D50, as columns."""
P3_TO_XYZ = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
"""Primaries of Display P3, adapted to D50, as columns."""
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(to_xyz: np.ndarray, gamma: float) -> bytes:
    """A display profile: linear = value ^ gamma, XYZ = to_xyz @ linear."""
    curve = _curve(gamma)
    columns = {tag: _xyz(tuple(to_xyz[:, i])) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def grey_profile(gamma: float) -> bytes:
    """A profile of one channel: luminance = value ^ gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """A press whose every corner is neutral: L = 100 (1 - k) (1 - (c + m + y) / 3), linear between the corners."""
    table = b""
    for corner in range(16):
        c, m, y, k = (corner >> shift & 1 for shift in (3, 2, 1, 0))
        lightness = (1 - k) * (1 - (c + m + y) / 3)
        table += bytes((round(255 * lightness), 128, 128))
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + struct.pack(">4B", 4, 3, 2, 0) + matrix + identity * 4 + table + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def to_srgb(rgb: tuple[int, int, int], to_xyz: np.ndarray, gamma: float) -> np.ndarray:
    """8 bit sRGB levels of an 8 bit colour of `rgb_profile(to_xyz, gamma)`."""
    linear = (np.array(rgb) / 255) ** gamma
    return srgb_levels(np.linalg.solve(SRGB_TO_XYZ, to_xyz @ linear))


def srgb_levels(linear: np.ndarray) -> np.ndarray:
    """The transfer function of sRGB, in 8 bit levels."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _xyz(value: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in value))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz(_D50), **tags}
    offset = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(content), len(data))
        content += data + b"\0" * (-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", offset + len(content), b"test", 0x02100000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _xyz(_D50)[8:]
    return header.ljust(128, b"\0") + table + content
