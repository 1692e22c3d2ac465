"""Folders of small features, and a store that fails."""

from pathlib import Path
from typing import ClassVar

import torch
from fsspec.implementations.memory import MemoryFileSystem

from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.shards import ShardWriter
from uniavgen.data.words import Word

SPEAKERS = ("ann", "bob", "ann", "cy", "bob", "ann", "lone")


def features(i: int, with_video: bool = True) -> Features:
    """Clip i has 2 + i latent frames of 4 x 6, 11 + i audio tokens and a letter of its own."""
    generator = torch.Generator().manual_seed(i)
    letter = chr(ord("a") + i)
    return Features(
        key=f"x/clip{i}",
        text=f"hi {letter}",
        speaker=SPEAKERS[i % len(SPEAKERS)],
        words=(Word(text="hi", start_s=0.1, end_s=0.2), Word(text=letter, start_s=0.2, end_s=0.3)),
        mel=torch.randn(11 + i, 7, generator=generator).half().float(),
        latents=torch.randn(5, 2 + i, 4, 6, generator=generator).half().float() if with_video else None,
        caption=torch.ones(3, 11) if with_video else None,
    )


def write_features(folder: Path, numbers: range, per_shard: int = 3) -> str:
    """Writes or appends clips; even numbers have video."""
    empty = Features(key=EMPTY_CAPTION, text="", speaker="", words=(), mel=torch.zeros(1, 7), caption=torch.ones(1, 11))
    with ShardWriter(folder, per_shard) as writer:
        if not writer.keys:
            writer.write(EMPTY_CAPTION, empty.to_parts())
        for i in numbers:
            writer.write(f"x/clip{i}", features(i, with_video=i % 2 == 0).to_parts())
    return str(folder)


class FlakyFileSystem(MemoryFileSystem):
    """The memory file system, which fails as often as it is told to, and counts what it is asked for."""

    protocol: ClassVar[str] = "flaky"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failures: ClassVar[int] = 0
    truncated: ClassVar[int] = 0
    """Answers whose last byte is wrong."""
    requested: ClassVar[list[str]] = []

    @classmethod
    def fill(cls, folder: Path, bucket: str) -> str:
        """Copies the files of a folder and returns their URL."""
        cls.failures, cls.truncated, cls.requested = 0, 0, []
        for file in folder.iterdir():
            cls().pipe_file(f"/{bucket}/{file.name}", file.read_bytes())
        return f"flaky://{bucket}"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("flaky://", "memory://"))

    def cat_file(self, path, start=None, end=None, **options):
        cls = type(self)
        cls.requested.append(path)
        if cls.failures:
            cls.failures -= 1
            raise TimeoutError("the store does not answer")
        content = super().cat_file(path, start=start, end=end, **options)
        if cls.truncated:
            cls.truncated -= 1
            return content[:-1] + bytes([content[-1] ^ 1])
        return content

    def get_file(self, rpath, lpath, **options):
        type(self).requested.append(rpath)
        return super().get_file(rpath, lpath, **options)
