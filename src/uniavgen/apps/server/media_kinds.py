"""What a file is, told by its first bytes, never by a name; only formats that FFmpeg or Pillow reads without reading
other files."""

from pathlib import Path
from typing import Final

IMAGE, VIDEO, AUDIO = "image", "video", "audio"
_PREFIXES: Final = {
    b"\x89PNG\r\n\x1a\n": (IMAGE, "png"),
    b"\xff\xd8\xff": (IMAGE, "jpg"),
    b"GIF87a": (IMAGE, "gif"),
    b"GIF89a": (IMAGE, "gif"),
    b"BM": (IMAGE, "bmp"),
    b"II*\0": (IMAGE, "tiff"),
    b"MM\0*": (IMAGE, "tiff"),
    b"\x1aE\xdf\xa3": (VIDEO, "mkv"),
    b"fLaC": (AUDIO, "flac"),
    b"ID3": (AUDIO, "mp3"),
}
_RIFF: Final = {b"WEBP": (IMAGE, "webp"), b"WAVE": (AUDIO, "wav"), b"AVI ": (VIDEO, "avi")}
_FTYP: Final = {b"M4A ": (AUDIO, "m4a"), b"M4B ": (AUDIO, "m4a"), b"qt  ": (VIDEO, "mov")}
_IMAGE_BRANDS: Final = (b"avif", b"avis", b"heic", b"heix", b"mif1")
_TS_PACKET: Final = 188


def find_kind(path: Path) -> tuple[str, str] | None:
    """Returns the kind of a file (image, video or audio) and a file ending for it; None for one that is not taken."""
    with path.open("rb") as file:
        head = file.read(2 * _TS_PACKET + 1)
    for prefix, found in _PREFIXES.items():
        if head.startswith(prefix):
            return found
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _IMAGE_BRANDS else _FTYP.get(head[8:12], (VIDEO, "mp4"))
    if head.startswith(b"OggS"):
        return (VIDEO, "ogv") if b"theora" in head else (AUDIO, "ogg")
    # MPEG audio without tags, and AAC in ADTS frames: 11 or 12 set bits.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return (AUDIO, "aac") if head[1] & 0x06 == 0 else (AUDIO, "mp3")
    if len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == 0x47:
        return VIDEO, "ts"
    return None
