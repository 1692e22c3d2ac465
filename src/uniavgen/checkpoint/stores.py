"""Weights on disk as they are published: names, shapes and types out of headers, then one tensor at a time.

Files are mapped into memory, not read, and what was read through a mapping stays resident while it lasts: so a file is
mapped anew from time to time. Pickled code is never run.
"""

import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uniavgen.artifacts import first_line, os_error_text
from uniavgen.checkpoint.keymap import Shape
from uniavgen.errors import CheckpointError

DTYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Of weights, by their names in safetensors headers."""
_CUT = "incomplete metadata, file not fully covered"
_ZIP = b"PK"
_RESIDENT_BYTES: Final = 2**26


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what it is."""

    file: Path
    shape: Shape
    dtype: torch.dtype


class StoredWeights:
    """Named tensors in one or several files; build with `find_weights`, `read_safetensors` or `read_pickled`."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self.tensors = dict(tensors)
        self._mapped: Path | None = None
        self._tensor: Callable[[str], Tensor] = _nothing
        self._resident = 0

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {name: stored.shape for name, stored in self.tensors.items()}

    @property
    def files(self) -> list[Path]:
        return sorted({stored.file for stored in self.tensors.values()})

    def read(self, name: str) -> Tensor:
        """A tensor, mapped into memory; CheckpointError where its file was damaged or changed since it was listed."""
        tensor = self._mapped_tensor(name)
        self._resident += tensor.nbytes
        return tensor

    def pieces(self, name: str, count: int) -> Iterator[Tensor]:
        """A tensor's values in order, `count` at a time; however large it is, little of it is resident at once."""
        start, total = 0, math.prod(self.tensors[name].shape)
        while start < total:
            # Reshaping copies what is not contiguous, which no published file has.
            piece = self._mapped_tensor(name).reshape(-1)[start : start + count]
            start += count
            self._resident += piece.nbytes
            yield piece

    def _mapped_tensor(self, name: str) -> Tensor:
        stored = self.tensors[name]
        if stored.file != self._mapped or self._resident > _RESIDENT_BYTES:
            self._mapped, self._resident = stored.file, 0
            self._tensor = _tensors_of(stored.file)
        tensor = self._tensor(name)
        if tuple(tensor.shape) != stored.shape or tensor.dtype != stored.dtype:
            raise CheckpointError(f"{stored.file} has changed while it was read; start again")
        return tensor


def find_weights(folder: Path, stem: str, what: str) -> StoredWeights:
    """The weights that a folder holds under the hub's names: STEM.safetensors, or an index and its shards.

    `what` names them in the CheckpointError that tells what is missing or damaged.
    """
    index, single = folder / f"{stem}.safetensors.index.json", folder / f"{stem}.safetensors"
    if index.is_file():
        return _read_index(index)
    if single.is_file():
        return read_safetensors([single])
    shards = len(list(folder.glob(f"{stem}-*-of-*.safetensors")))
    found = f"{shards} shards without their index" if shards else "nothing of that name"
    raise CheckpointError(
        f"{folder} lacks {what}: expected {single.name} or {index.name} with its shards, found {found}; "
        "copy or download the folder again"
    )


def read_safetensors(files: list[Path]) -> StoredWeights:
    """All tensors of some safetensors files. Raises CheckpointError."""
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        with _opened(file) as opened:
            for name in opened.keys():  # noqa: SIM118 - the library's handle is no mapping
                header = opened.get_slice(name)
                if header.get_dtype() not in DTYPES:
                    raise CheckpointError(
                        f"{name} in {file} is stored as {header.get_dtype()}, expected {', '.join(DTYPES)}; "
                        "convert the original weights, not quantised ones"
                    )
                if name in tensors:
                    raise CheckpointError(f"{name} stands in both {tensors[name].file} and {file}; remove one of them")
                tensors[name] = StoredTensor(file, tuple(header.get_shape()), DTYPES[header.get_dtype()])
    return StoredWeights(tensors)


def read_pickled(file: Path, what: str) -> StoredWeights:
    """All tensors of a file of `torch.save`, which must be a flat dictionary of them. Raises CheckpointError."""
    if not file.is_file():
        raise CheckpointError(f"{file.parent} lacks {what}: expected {file.name}; copy or download it again")
    state = _unpickled(file)
    return StoredWeights({name: StoredTensor(file, tuple(value.shape), value.dtype) for name, value in state.items()})


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, empty if there is no such file. Raises CheckpointError."""
    if not file.is_file():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); copy or download it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} holds no JSON object but a {type(data).__name__}; copy or download it again")
    return data


def _read_index(index: Path) -> StoredWeights:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(_is_inside(name) for name in listed.values()):
        raise CheckpointError(f"{index} is no index of shards: it has no weight_map of file names; download it again")
    files = sorted(set(listed.values()))
    absent = [name for name in files if not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{len(absent)} of the {len(files)} shards that {index} names are missing: {', '.join(absent[:4])}; "
            "copy or download them"
        )
    weights = read_safetensors([index.parent / name for name in files])
    astray = [
        key
        for key, name in listed.items()
        if (got := weights.tensors.get(key)) is None or got.file.name != Path(name).name
    ]
    if astray:
        raise CheckpointError(
            f"{index} and its shards disagree about {len(astray)} tensors, first {astray[0]}; download both again"
        )
    return weights


def _is_inside(name: object) -> bool:
    """Whether a name of an index stays in its folder."""
    return isinstance(name, str) and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def _tensors_of(file: Path) -> Callable[[str], Tensor]:
    return _opened(file).get_tensor if file.suffix == ".safetensors" else _unpickled(file).__getitem__


def _nothing(name: str) -> Tensor:
    raise AssertionError(f"{name} was asked for before a file was mapped")


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {os_error_text(error)}") from None
    except RuntimeError as error:
        raise _unmapped(file, error) from None
    except SafetensorError as error:
        if _CUT in str(error):
            size = file.stat().st_size
            raise CheckpointError(
                f"{file} is cut short or has too much: its {size} bytes are not those its header promises; "
                "download it again"
            ) from None
        detail = str(error).rpartition(": ")[2]
        raise CheckpointError(f"{file} has no readable header ({detail}); it is damaged, download it again") from None


def _unmapped(file: Path, error: Exception) -> CheckpointError:
    why = first_line(error).rpartition(": ")[2]
    return CheckpointError(
        f"{file} of {file.stat().st_size / 1e9:.1f} GB cannot be mapped into memory ({why}); use a machine with "
        "more, or let Linux promise more than it has (vm.overcommit_memory=1)"
    )


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        with file.open("rb") as opened:
            is_zip = opened.read(len(_ZIP)) == _ZIP
        if not is_zip:
            raise CheckpointError(
                f"{file} is no file of torch.save, or of its format before torch 1.6; download it again, or load and "
                "save it with a current torch"
            )
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {os_error_text(error)}") from None
    try:
        state = torch.load(file, mmap=True, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{file} holds pickled code or objects beside tensors and is not opened; get it from its original place"
        ) from None
    except (OSError, RuntimeError, EOFError) as error:
        if "unable to mmap" in str(error):
            raise _unmapped(file, error) from None
        detail = first_line(error).partition(". ")[0]
        raise CheckpointError(f"{file} is cut short or damaged ({detail}); download it again") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} is no flat dictionary of tensors; give the file as it was published")
    foreign = [name for name, value in state.items() if value.dtype not in DTYPES.values()]
    if foreign:
        raise CheckpointError(
            f"{foreign[0]} in {file} is stored as {state[foreign[0]].dtype}; convert the original weights, not "
            "quantised ones"
        )
    return state
