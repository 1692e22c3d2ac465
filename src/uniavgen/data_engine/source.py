"""Source files: where they are found, and how each is known by its content, whatever its name."""

import hashlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uniavgen.artifacts import check_regular_file, os_error_text, path_exists
from uniavgen.data.given_clip import GivenClip
from uniavgen.data.given_sets import is_table
from uniavgen.data.local_videos import is_video
from uniavgen.data_engine.given import GivenReader
from uniavgen.data_engine.rights import Rights
from uniavgen.errors import ConfigError, DataError

_PIECE: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """A file of raw video."""

    path: Path
    key: str
    """Its content: SHA-256 of its length, its first and its last MiB, 32 hexadecimal digits."""
    rights: Rights
    given: tuple[GivenClip, ...] = ()
    """What a list or files beside it say of it; not measured."""


@dataclass(frozen=True, kw_only=True)
class UnreadableSource:
    """A file or folder that cannot be opened."""

    path: Path
    reason: str


def find_sources(paths: Iterable[Path]) -> tuple[list[SourceVideo], list[UnreadableSource]]:
    """Returns the video files among `paths`, in the folders and lists among them, by key, and what cannot be opened.

    A file that is there twice counts once, by the first of its names. One whose rights cannot be read is not used.
    Raises DataError for a path that does not exist.
    """
    sources: dict[str, SourceVideo] = {}
    unreadable: list[UnreadableSource] = []
    paths = list(paths)
    for path in paths:
        if not path_exists(path):
            raise DataError(f"there is no file or folder {path}; give videos, folders of videos or lists of clips")
    reader = GivenReader([path for path in paths if is_table(path)])
    unreadable += [
        UnreadableSource(path=Path(clip.origin), reason=f"it {clip.problem}") for clip in reader.clips if clip.problem
    ]
    folders = [path for path in paths if not is_table(path)]
    for file in (*(file for path in folders for file in _files(path, unreadable)), *reader.files):
        try:
            key = content_key(file)
            if key not in sources:
                rights, given = reader.read(file.absolute())
                sources[key] = SourceVideo(path=file.absolute(), key=key, rights=rights, given=given)
        except (DataError, ConfigError) as error:
            unreadable.append(UnreadableSource(path=file, reason=str(error)))
    return [sources[key] for key in sorted(sources)], unreadable


def content_key(file: Path) -> str:
    """Returns `SourceVideo.key` of a file. Raises DataError where it is no regular file or cannot be read."""
    check_regular_file(file)
    try:
        size = file.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with file.open("rb") as content:
            digest.update(content.read(_PIECE))
            content.seek(max(size - _PIECE, 0))
            digest.update(content.read(_PIECE))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {os_error_text(error)}") from error
    return digest.hexdigest()[:32]


def _files(path: Path, unreadable: list[UnreadableSource]) -> Iterator[Path]:
    """Yields the video files of a folder in order, or the one file that is named."""
    try:
        # Entries of a folder that may be listed but not entered have no type.
        if not stat.S_ISDIR(path.stat().st_mode):
            yield path
            return
        entries = sorted(path.iterdir())
        folders = {entry for entry in entries if stat.S_ISDIR(entry.lstat().st_mode)}
    except OSError as error:
        reason = f"{path} cannot be read: {os_error_text(error)}"
        unreadable.append(UnreadableSource(path=path, reason=reason))
        return
    for entry in entries:
        if entry in folders:
            yield from _files(entry, unreadable)
        elif is_video(entry) and not entry.name.startswith("."):
            yield entry
