"""Writing a model's files: whole or not at all, and on from where a process was killed or interrupted.

Files are made in a hidden folder beside the output, `.NAME.partial`. Its `manifest.json` lists the complete ones with
their checksums; when it lists all, the folder gets its name. No byte depends on when or how often a run was started: a
file counts as complete only where plan, length and checksum agree, and is made anew otherwise. A run that fails, for
what its sources hold or because the disk is full, leaves nothing.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file

from uniavgen.artifacts import atomic_folder, check_output_folder, checksum, path_exists, read_json, write_text
from uniavgen.checkpoint.weights import StoredTensor, check_finite, read_tensors
from uniavgen.errors import CheckpointError

MANIFEST: Final = "manifest.json"
OnBytes = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ConvertedTensor:
    """A parameter of ours: where its values lie and how they are written."""

    name: str
    source: StoredTensor
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return math.prod(self.source.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class OutputFile:
    """A file of the model: settings as they are, or tensors as safetensors."""

    path: str
    """Relative to the model's folder."""
    content: bytes | tuple[ConvertedTensor, ...]

    @property
    def num_bytes(self) -> int:
        """Returns its length, without the header of safetensors."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return sum(tensor.num_bytes for tensor in self.content)

    def described(self) -> list[Any]:
        """Returns what decides its bytes; sources count by name, size and date of change."""
        if isinstance(self.content, bytes):
            return [self.path, self.content.hex()]
        return [self.path, [_describe(tensor) for tensor in self.content]]

    def write(self, path: Path) -> None:
        """Writes the file; raises CheckpointError for values that are no numbers, before or after their conversion."""
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
            return
        values = read_tensors({tensor.name: tensor.source for tensor in self.content})
        for tensor in self.content:
            check_finite([(tensor.source.key, values[tensor.name])], tensor.source.file)
            if tensor.dtype != tensor.source.dtype:
                values[tensor.name] = values[tensor.name].to(tensor.dtype)
                check_finite([(f"{tensor.source.key} as {tensor.dtype}", values[tensor.name])], tensor.source.file)
        save_file({name: value.contiguous() for name, value in values.items()}, path, metadata={"format": "pt"})


def weight_files(folder: str, stem: str, tensors: Sequence[ConvertedTensor], shard_bytes: int) -> list[OutputFile]:
    """Returns one file of weights, or shards of at most `shard_bytes` (or one tensor) with the index loaders expect."""
    prefix = f"{folder}/" if folder else ""
    by_name = {tensor.name: tensor for tensor in tensors}
    split = split_state_dict_into_shards_factory(
        by_name,
        get_storage_size=lambda tensor: tensor.num_bytes,
        filename_pattern=f"{stem}{{suffix}}.safetensors",
        max_shard_size=shard_bytes,
    )
    files = [
        OutputFile(prefix + file, tuple(by_name[name] for name in names))
        for file, names in split.filename_to_tensors.items()
    ]
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        files.append(json_file(f"{prefix}{stem}.safetensors.index.json", index))
    return files


def json_file(path: str, data: Any) -> OutputFile:
    """Returns settings as diffusers writes them."""
    return OutputFile(path, (json.dumps(data, indent=2, sort_keys=True) + "\n").encode())


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
        """A checksum of everything that decides the output's bytes."""
        text = json.dumps([dict(self.facts), [file.described() for file in self.files]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def run(self, out: Path, on_bytes: OnBytes) -> int:
        """Writes the folder `out`, which must not exist. Returns how many files an earlier run had left complete.

        `on_bytes` is called with the length of every file that is written or complete; together they are `num_bytes`.
        Raises CheckpointError where there is no room or a source is damaged, OutputError where another process writes
        `out` or the operating system refuses. Both leave nothing behind.
        """
        check_output(out)
        with atomic_folder(out, resume=True) as partial:
            # Another process may have finished it before the lock was free.
            check_output(out)
            complete = self._complete_files(partial)
            num_resumed = len(complete)
            self._check_space(partial, complete)
            for file in self.files:
                if file.path not in complete:
                    path = partial / file.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    file.write(path)
                    complete[file.path] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
                    self._write_manifest(partial, complete)
                on_bytes(file.num_bytes)
        return num_resumed

    def _complete_files(self, partial: Path) -> dict[str, dict[str, Any]]:
        """Returns the entries of the files that an earlier run of this plan has completed; deletes all others."""
        listed: dict[str, dict[str, Any]] = {}
        if (partial / MANIFEST).exists():
            with suppress(CheckpointError):
                manifest = read_json(partial / MANIFEST, CheckpointError)
                listed = manifest["files"] if manifest.get("plan") == self.plan else {}
        complete = {
            file.path: listed[file.path]
            for file in self.files
            if file.path in listed
            and (partial / file.path).is_file()
            and listed[file.path]["sha256"] == checksum(partial / file.path)
        }
        for path in partial.rglob("*"):
            if not path.is_dir() and path.relative_to(partial).as_posix() not in {*complete, MANIFEST}:
                path.unlink()
        return complete

    def _check_space(self, place: Path, complete: Mapping[str, Any]) -> None:
        needed = sum(file.num_bytes for file in self.files if file.path not in complete)
        free = shutil.disk_usage(place).free
        if needed > free:
            raise CheckpointError(
                f"the model needs {readable(needed)} and {place.parent} has {readable(free)} free; free some space or "
                "choose another --out"
            )

    def _write_manifest(self, partial: Path, complete: Mapping[str, Any]) -> None:
        listed = {file.path: complete[file.path] for file in self.files if file.path in complete}
        manifest = {**self.facts, "plan": self.plan, "files": listed}
        write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def check_output(out: Path) -> None:
    """Checks that a new folder may be made at `out`. Raises CheckpointError and OutputError."""
    if path_exists(out):
        raise CheckpointError(f"{out} exists already and is not overwritten; remove it or choose another --out")
    check_output_folder(out)


def readable(num_bytes: int) -> str:
    """Returns a size for people."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"


def _describe(tensor: ConvertedTensor) -> list[Any]:
    source, state = tensor.source, tensor.source.file.stat()
    place = [str(source.file.absolute()), state.st_size, state.st_mtime_ns, source.key]
    return [tensor.name, list(source.shape), str(tensor.dtype), place]
