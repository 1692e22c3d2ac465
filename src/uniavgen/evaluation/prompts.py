"""Prompt sets: what systems are asked to make, one JSON object a line.

    {"id": "0001", "image": "images/0001.png", "caption": "A man speaks.", "speech": "It is late.", "split": "photo"}

Only `id` is needed; a task needs more (`Request`). Files are named relative to the set's file. A line that cannot be
used becomes a row of the report with its reason, and the rest goes on.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from uniavgen.artifacts import os_error_text, write_text
from uniavgen.config import Config, parse
from uniavgen.errors import ConfigError, DataError

_FORBIDDEN = set('/\\:*?"<>|\0')
_MAX_ID = 120


@dataclass(frozen=True, kw_only=True)
class Prompt(Config):
    """One thing to make."""

    id: str
    """Also the stem of the clip's file."""
    caption: str = ""
    """What is seen."""
    speech: str = ""
    """What is said."""
    image: Path | None = None
    """Picture of the person; the first frame."""
    voice: Path | None = None
    """Recording of the wanted voice."""
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
        if not self.id.strip() or set(self.id) & _FORBIDDEN or self.id.startswith(".") or len(self.id) > _MAX_ID:
            raise ConfigError(
                f"an id is the name of a file without its ending, up to {_MAX_ID} characters, got '{self.id}'"
            )
        if (self.voice is None) != (not self.voice_text.strip()):
            raise ConfigError("voice and voice_text belong together; give both or neither")

    def files(self) -> dict[str, Path]:
        """Field to file, of those that are named."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Path)}

    @cached_property
    def digest(self) -> str:
        """sha256 of all that is asked for, files by their content; measurements are remembered under it."""
        said = {name: value for name, value in asdict(self).items() if isinstance(value, str)}
        held = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.files().items()}
        return hashlib.sha256(json.dumps([said, held], sort_keys=True).encode()).hexdigest()


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
    """The set in a file; DataError where there is no such file or not one line of it can be used."""
    try:
        content = path.read_bytes()
        lines = content.decode().splitlines()
    except OSError as error:
        raise DataError(f"the prompts {path} cannot be read: {os_error_text(error)}; name a .jsonl file") from None
    except UnicodeDecodeError:
        raise DataError(f"the prompts {path} are no text; name a file with one JSON object a line") from None
    prompts: dict[str, Prompt] = {}
    bad: list[BadPrompt] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(line, path.parent, number)
        except (ConfigError, DataError) as error:
            bad.append(BadPrompt(id=_id_of(line, number), reason=str(error)))
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
    """Write a set; files below its folder are named relative to it."""
    write_text(path, "".join(json.dumps(_plain(prompt, path.parent)) + "\n" for prompt in prompts))


def _prompt(line: str, folder: Path, number: int) -> Prompt:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise DataError(f"line {number} is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise DataError(f"line {number} is no JSON object but {type(data).__name__}")
    prompt = parse(Prompt, data, origin=f"line {number}")
    found = {name: folder / file for name, file in prompt.files().items()}
    missing = [f"{name} {file}" for name, file in found.items() if not file.is_file()]
    if missing:
        raise DataError(f"line {number}: there is no {' and no '.join(missing)}")
    return replace(prompt, **found)


def _id_of(line: str, number: int) -> str:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    return str(data["id"]) if isinstance(data, dict) and "id" in data else f"line {number}"


def _plain(prompt: Prompt, folder: Path) -> dict[str, Any]:
    values = {field.name: getattr(prompt, field.name) for field in fields(prompt)}
    return {
        name: _named(value, folder) if isinstance(value, Path) else value for name, value in values.items() if value
    }


def _named(file: Path, folder: Path) -> str:
    return (file.relative_to(folder) if file.is_relative_to(folder) else file.absolute()).as_posix()
