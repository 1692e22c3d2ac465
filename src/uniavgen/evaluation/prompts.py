"""Prompt sets: what systems are asked to make, one JSON object a line.

    {"id": "0001", "image": "images/0001.png", "caption": "A man speaks.", "speech": "It is late.", "split": "photo"}

Only `id` is needed; a task needs more (`Request`). Files are named relative to the set's file. A line that cannot be
used, whatever is wrong with it, becomes a row of the report with its reason, and the rest goes on.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from uniavgen.artifacts import check_regular_file, checksum, os_error_text, parse_json, write_text
from uniavgen.config import Config, parse
from uniavgen.errors import ConfigError, DataError

_FORBIDDEN = set('/\\:*?"<>|\0')
_MAX_ID_BYTES = 200
"""File systems take names of 255 bytes, and a clip's files have endings."""
_MAX_REASON = 300


@dataclass(frozen=True, kw_only=True)
class Prompt(Config):
    """One clip to generate."""

    id: str
    """Also the stem of the clip's file."""
    caption: str = ""
    """What the picture shows."""
    speech: str = ""
    """The words to be spoken."""
    image: Path | None = None
    """Picture of the person; the first frame."""
    voice: Path | None = None
    """Recording of the reference voice."""
    voice_text: str = ""
    audio: Path | None = None
    """Sound that drives an animation."""
    video: Path | None = None
    """Video to be dubbed, or the true clip."""
    person: str = ""
    """Whose face and voice it is; clips of the same person should sound alike."""
    emotion: str = ""
    split: str = "all"
    """Part of the set that is reported apart, such as photo and drawn. [paper 4.1: real photos, AIGC and anime]"""
    truth: Path | None = None
    """npz of a rendered clip: mouth_opening, face_mask, face_mask_shape, as `uniavgen synth` writes it."""

    def __post_init__(self) -> None:
        if not _is_file_stem(self.id):
            raise ConfigError(
                f"an id is the name of a file without its ending, up to {_MAX_ID_BYTES} bytes, got '{self.id[:100]}'"
            )
        if (self.voice is None) != (not self.voice_text.strip()):
            raise ConfigError("voice and voice_text belong together; give both or neither")

    def files(self) -> dict[str, Path]:
        """Returns the files that are named, by field."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Path)}

    @cached_property
    def digest(self) -> str:
        """sha256 of all fields, files by their content; measurements are stored under it."""
        texts = {name: value for name, value in asdict(self).items() if isinstance(value, str)}
        checksums = {name: checksum(path) for name, path in self.files().items()}
        return hashlib.sha256(json.dumps([texts, checksums], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class BadPrompt:
    """A line that cannot be used."""

    id: str
    """Its id, or the number of its line where it has none."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """The prompts of a file in its order."""

    prompts: Sequence[Prompt]
    bad: Sequence[BadPrompt] = ()
    sha256: str = ""
    """Of the file."""


def read_prompts(path: Path) -> PromptSet:
    """Returns the set in a file; DataError where there is no such file or not one line of it can be used."""
    check_regular_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the prompts {path} cannot be read: {os_error_text(error)}; name a .jsonl file") from error
    prompts: dict[str, Prompt] = {}
    bad: list[BadPrompt] = []
    # Bytes, because one line that is no UTF-8 says nothing about the others, and text has more line ends than JSON.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        name, origin = f"line {number}", f"line {number}"
        try:
            data = parse_json(line, origin, remedy="write one JSON object with an id a line")
            name = data["id"] if _is_file_stem(data.get("id")) else name
            prompt = _prompt(data, path.parent, origin)
        except (ConfigError, DataError) as error:
            bad.append(BadPrompt(id=name, reason=_printable(str(error))))
            continue
        if prompt.id in prompts:
            bad.append(BadPrompt(id=prompt.id, reason=f"line {number} has the id of an earlier line; ids must differ"))
        else:
            prompts[prompt.id] = prompt
    if not prompts:
        first = f", first: {bad[0].reason}" if bad else ""
        raise DataError(f"{path} holds no prompt that can be used{first}; write one JSON object with an id a line")
    return PromptSet(prompts=tuple(prompts.values()), bad=tuple(bad), sha256=hashlib.sha256(content).hexdigest())


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """Writes a set; files below its folder are named relative to it."""
    write_text(path, "".join(json.dumps(_plain(prompt, path.parent)) + "\n" for prompt in prompts))


def _prompt(data: Mapping[str, Any], folder: Path, origin: str) -> Prompt:
    prompt = parse(Prompt, data, origin)
    for name, value in asdict(prompt).items():
        if not _is_encodable(str(value)):
            raise DataError(f"{origin}: {name} holds half of a surrogate pair, which is no character; write it anew")
    files = {name: folder / file for name, file in prompt.files().items()}
    # Unlike Path.is_file, os.path.isfile is False for names that are too long or hold a zero byte.
    missing = [f"{name} {file}" for name, file in files.items() if not os.path.isfile(file)]  # noqa: PTH113
    if missing:
        raise DataError(f"{origin}: there is no {' and no '.join(missing)}")
    unreadable = [f"{name} {file}" for name, file in files.items() if not os.access(file, os.R_OK)]
    if unreadable:
        raise DataError(f"{origin}: {' and '.join(unreadable)} cannot be read; change its permissions")
    return replace(prompt, **files)


def _is_file_stem(name: Any) -> bool:
    """Returns whether a value can be the stem of a clip's file."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and bool(name.strip())
        and not set(name) & _FORBIDDEN
        and not name.startswith(".")
        and len(name.encode()) <= _MAX_ID_BYTES
    )


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _printable(text: str) -> str:
    """Returns a reason that a report can hold: of bounded length, with escapes for what is no character."""
    short = text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]} ..."
    return short.encode(errors="backslashreplace").decode()


def _plain(prompt: Prompt, folder: Path) -> dict[str, Any]:
    values = {field.name: getattr(prompt, field.name) for field in fields(prompt)}
    return {
        name: _named(value, folder) if isinstance(value, Path) else value for name, value in values.items() if value
    }


def _named(file: Path, folder: Path) -> str:
    return (file.relative_to(folder) if file.is_relative_to(folder) else file.absolute()).as_posix()
