"""Writing a model's files: whole or not at all, and on from where an earlier run was stopped.

Files are made in a hidden folder beside the output, `.NAME.partial`. Its `manifest.json` lists every file that is
complete with its checksum; when it lists all, the folder gets its name. No byte depends on when or how often it was
started: a file counts as complete only where plan, length and checksum agree, and is made anew otherwise.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import checksum, os_error_text, partial_path
from uniavgen.checkpoint.files import OutputFile, WeightFile
from uniavgen.errors import CheckpointError

MANIFEST: Final = "manifest.json"
OnBytes = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A model that can be written."""

    files: Sequence[OutputFile]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says beside the files: sources, versions."""

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    @cached_property
    def plan(self) -> str:
        """A checksum of everything that decides the output's bytes; sources count by name, size and date of change."""
        sources = sorted({path for file in self.files if isinstance(file, WeightFile) for path in _sources(file)})
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
        text = json.dumps([dict(self.facts), [file.described() for file in self.files], states], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def run(self, out: Path, on_bytes: OnBytes) -> int:
        """Write the folder `out`, which must not exist. Returns how many files an earlier run had left complete.

        `on_bytes` hears of every piece that is written or found written; together they are `num_bytes`.
        Raises CheckpointError where there is no room, or the system or a source refuses.
        """
        partial = partial_path(out)
        check_output(out)
        try:
            done = self._complete(partial)
            self._check_space(partial.parent, done)
            partial.mkdir(parents=True, exist_ok=True)
            kept = len(done)
            for file in self.files:
                if file.path in done:
                    on_bytes(file.num_bytes)
                    continue
                done[file.path] = {"bytes": file.num_bytes, "sha256": _write(file, partial, on_bytes)}
                self._note(partial, done)
            partial.rename(out)
        except OSError as error:
            raise CheckpointError(
                f"the model {out} could not be written: {os_error_text(error)}; mend that and give "
                f"the same command again, which goes on from {partial}"
            ) from None
        return kept

    def _complete(self, partial: Path) -> dict[str, dict[str, Any]]:
        """Files of an earlier run of this plan that are as it left them."""
        try:
            manifest = json.loads((partial / MANIFEST).read_text())
            listed = dict(manifest["files"]) if manifest["plan"] == self.plan else {}
        except (OSError, ValueError, KeyError, TypeError):
            listed = {}
        known = {file.path: file.num_bytes for file in self.files}
        done = {
            path: entry
            for path, entry in listed.items()
            if path in known
            and entry["bytes"] == known[path]
            and (partial / path).is_file()
            and entry["sha256"] == checksum(partial / path)
        }
        for path in partial.rglob("*") if partial.is_dir() else ():
            if path.is_file() and path.relative_to(partial).as_posix() not in {*done, MANIFEST}:
                path.unlink()
        return done

    def _check_space(self, place: Path, done: Mapping[str, Any]) -> None:
        while not place.exists():
            place = place.parent
        needed = self.num_bytes - sum(entry["bytes"] for entry in done.values())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise CheckpointError(
                f"the model needs {readable(needed)} and {place} has {readable(free)} free; free some space or choose "
                "another --out"
            )

    def _note(self, partial: Path, done: Mapping[str, Any]) -> None:
        manifest = {
            **self.facts,
            "plan": self.plan,
            "files": {file.path: done[file.path] for file in self.files if file.path in done},
        }
        _replace(partial / MANIFEST, [json.dumps(manifest, indent=2).encode() + b"\n"], lambda _: None)


def check_output(out: Path) -> None:
    """CheckpointError unless a folder may be made at `out`."""
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out} exists already and is not overwritten; remove it or choose another --out")
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise CheckpointError(f"{out} cannot be made: {folder} is not a folder; choose another --out")
    if not os.access(folder, os.W_OK):
        raise CheckpointError(f"{out} cannot be made: {folder} does not take files; choose another --out")


def _write(file: OutputFile, partial: Path, on_bytes: OnBytes) -> str:
    path = partial / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    return _replace(path, file.chunks(), on_bytes)


def _replace(path: Path, chunks: Any, on_bytes: OnBytes) -> str:
    """Write beside `path`, then take its place; returns the checksum."""
    beside, digest = path.with_name(f"{path.name}.tmp"), hashlib.sha256()
    try:
        with beside.open("wb") as out:
            for chunk in chunks:
                out.write(chunk)
                digest.update(chunk)
                on_bytes(len(chunk))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return digest.hexdigest()


def _sources(file: WeightFile) -> set[Path]:
    return {tensor.weights.tensors[tensor.source_name].file for tensor in file.tensors}


def readable(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"
