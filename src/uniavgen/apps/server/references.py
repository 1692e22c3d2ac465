"""Pictures, videos and recordings of a request: uploads, data URLs, allowed URLs and one's own clips become files of
its job, told apart by their content."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uniavgen.apps.server.config import MIB, ServerConfig
from uniavgen.apps.server.errors import RequestError
from uniavgen.apps.server.fetching import fetch
from uniavgen.apps.server.media_kinds import AUDIO, IMAGE, VIDEO, find_kind
from uniavgen.apps.server.request_body import FILE_FIELDS, UploadedFile
from uniavgen.apps.server.schemas import VideoRequest

_DATA_URL: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(;[\w=.+-]+)*;base64,", re.ASCII)
# What each field takes, and for `input_reference` what is found in it.
_TAKEN: Final = {
    "input_reference": (IMAGE, VIDEO, AUDIO),
    "image_reference": (IMAGE,),
    "video_reference": (VIDEO,),
    "audio_reference": (AUDIO, VIDEO),
}
_MAX_NAME: Final = 100
CopyClip = Callable[[str, Path], bool]
"""Copies a finished clip of the client's own, named by its id, to a file; False where there is none."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A file that was given, in the folder of its job."""

    kind: str
    """How it is used: image, video or audio."""
    name: str
    """What the client calls it, or a name of ours."""
    path: Path
    digest: str
    """SHA-256 of its content."""


class ReferenceReader:
    """Brings the references of a request to the folder of its job."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config

    def read(
        self, request: VideoRequest, uploads: list[UploadedFile], folder: Path, copy_clip: CopyClip
    ) -> list[Reference]:
        """Returns the references of a request, uploads first.

        Raises RequestError 400 for what is no picture, video or recording, 413 for what is too large, 404 for a clip
        that does not exist.
        """
        found = [self._reference(upload.field, upload.name, upload.path) for upload in uploads]
        for field in FILE_FIELDS:
            for number, given in enumerate(getattr(request, field)):
                path = folder / f"{field}{number}"
                key, value = given.source(field)
                if key == "file_id":
                    if not copy_clip(value, path):
                        raise RequestError(404, f"there is no finished clip '{value[:80]}'; give the id of your own")
                elif value.startswith("data:"):
                    self._decode(value, path, field)
                else:
                    largest = max(self._config.max_bytes(kind) for kind in _TAKEN[field])
                    fetch(value, self._config.allow_url, path, largest)
                found.append(self._reference(field, f"{value}.mp4" if key == "file_id" else "", path))
        return found

    def _decode(self, url: str, path: Path, field: str) -> None:
        start = _DATA_URL.match(url[:200])
        if start is None:
            raise RequestError(400, f"{field}: a data URL is data:TYPE;base64,DATA; encode the file in base64")
        try:
            path.write_bytes(base64.b64decode(url[start.end() :], validate=True))
        except (binascii.Error, ValueError) as error:
            raise RequestError(400, f"{field}: the data URL is not base64; encode the file again") from error

    def _reference(self, field: str, name: str, path: Path) -> Reference:
        """Returns a stored file as a reference, with a name that says what it is."""
        size = path.stat().st_size
        if size == 0:
            raise RequestError(400, f"{field}: the file is empty; was it read completely?")
        found = find_kind(path)
        if found is None:
            raise RequestError(
                400, f"{field}: the file is no picture, video or recording that is taken; send PNG, JPEG, MP4 or WAV"
            )
        kind, suffix = found
        taken = _TAKEN[field]
        if kind not in taken:
            raise RequestError(400, f"{field} takes {' or '.join(taken)}, got {kind} ({suffix}); use {kind}_reference")
        if size > (limit := self._config.max_bytes(kind)):
            raise RequestError(413, f"{field}: {kind}s may have {limit // MIB} MiB, got {size // MIB + 1}; shrink it")
        named = path.with_name(f"{path.name}.{suffix}")
        path.rename(named)
        used = kind if field == "input_reference" else field.removesuffix("_reference")
        with named.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Reference(kind=used, name=_shown_name(name) or f"{used}.{suffix}", path=named, digest=digest)


def _shown_name(name: str) -> str:
    """Returns the last part of a client's name for a file, to be shown and never opened."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:_MAX_NAME]
