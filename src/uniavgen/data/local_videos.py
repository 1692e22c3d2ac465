"""Videos of a folder by what lists call them: a path, a file name, the identifier of a video, or its address."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from uniavgen.artifacts import os_error_text, path_exists
from uniavgen.errors import DataError

VIDEO_SUFFIXES: Final = (
    *(".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi"),
    *(".ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv"),
)
"""Of video files; other files in a folder are left alone."""
_ADDRESS: Final = re.compile(r"(?:[?&]v=|youtu\.be/|/shorts/|/embed/|/live/)([\w-]{11})(?![\w-])")
_BRACKETS: Final = re.compile(r"\[([\w-]{6,})\]$")
"""yt-dlp writes `Title [ID].mp4`."""
_FULL_VIDEO: Final = re.compile(r"_\d+x\d+_full_video$")
"""SpeakerVid-5M calls a video `ID_1920x1080_full_video`."""


def files_below(folder: Path) -> Iterator[Path]:
    """Yields the files of a folder in order, without hidden ones. Raises DataError where it cannot be read."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{folder} cannot be read: {os_error_text(error)}") from error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))


def is_video(file: Path) -> bool:
    """Returns whether a file is a video by its name."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def plain_identifier(identifier: str) -> str:
    """Returns the identifier of a video without what sets write around it; that of an address."""
    found = _ADDRESS.search(identifier)
    return found[1] if found else _FULL_VIDEO.sub("", identifier)


@dataclass(frozen=True)
class LocalVideos:
    """The videos below a folder."""

    folder: Path

    def at_path(self, name: str) -> Path | None:
        """Returns the file that a list names: absolute, below the folder, or the only one there of this name."""
        name = name.replace("\\", "/")
        path = self.folder / name
        if path_exists(path) and path.is_file():
            return path
        same = self._by_name.get(Path(name).name, ())
        return same[0] if len(same) == 1 else None

    def of_identifier(self, identifier: str) -> Path | None:
        """Returns the video of an identifier or an address, by the name of its file."""
        return self._by_identifier.get(plain_identifier(identifier))

    @cached_property
    def _files(self) -> list[Path]:
        return [file for file in files_below(self.folder) if is_video(file)]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        names: dict[str, list[Path]] = {}
        for file in self._files:
            names.setdefault(file.name, []).append(file)
        return names

    @cached_property
    def _by_identifier(self) -> dict[str, Path]:
        names: dict[str, Path] = {}
        for file in self._files:
            bracketed = _BRACKETS.search(file.stem)
            for name in (file.stem, _FULL_VIDEO.sub("", file.stem), bracketed[1] if bracketed else file.stem):
                names.setdefault(name, file)
        return names
