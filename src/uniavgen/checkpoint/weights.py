"""Weights on disk, as they are published or saved: names, shapes and types out of headers; values when they are needed.

A source is a file or an index and its shards, of safetensors or of `torch.save`. Files are mapped into memory for one
call and no longer, so that no more stays resident than the tensors of that call. Pickled code is never run.
"""

import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uniavgen.artifacts import PICKLE_ERRORS, check_regular_file, first_line, os_error_text, read_json
from uniavgen.checkpoint.keymap import Shape
from uniavgen.errors import CheckpointError

DTYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Of weights, by their names in safetensors headers."""
_ALPHA_DTYPES: Final = {"F64": torch.float64, "I64": torch.int64, "I32": torch.int32}
"""Of an adapter's alpha, which some programs store as Python gave it."""
INDEX_ENDING: Final = ".index.json"
"""Of the file that says which shard holds which tensor; the ending of the shards stands before it."""
_PICKLED: Final = (".pth", ".pt", ".bin", ".ckpt")
_ENDINGS: Final = tuple(f"{kind}{index}" for kind in (".safetensors", *_PICKLED) for index in (INDEX_ENDING, ""))
_SHARD: Final = re.compile(r"-\d+-of-\d+\.")
_COPY: Final = "copy or download it again"
# What torch.compile, FSDP and activation checkpointing put into names, at any depth.
_WRAPPERS: Final = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What DDP, trainers and all-in-one checkpoints put in front of every name.
_PREFIXES: Final = {"module", "model", "diffusion_model", "transformer", "text_encoder", "vae", "first_stage_model"}
_ADAPTER_NAME: Final = re.compile(r"(?:^|[._])lora[._]|[._]lora_|\.(?:hada|lokr)_w|\.dora_scale$")
# ComfyUI's files of umT5 hold the tokenizer as one more tensor.
_NO_WEIGHTS: Final = ("spiece_model",)


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what it is."""

    file: Path
    key: str
    """Its name in the file, with the prefixes that `Weights` do not have."""
    shape: Shape
    dtype: torch.dtype


Weights = dict[str, StoredTensor]


def find_weights(folder: Path, what: str, published: str, others: Iterable[str] = (), exclude: str = "$^") -> Weights:
    """Returns the weights that a folder holds under their published name, else those of a single file or index.

    what: names them in errors. published: file name, whose ending may be another. others: glob patterns of stems that
    are tried in this order. exclude: regular expression of file names that these do not mean.
    Raises CheckpointError where weights are missing, ambiguous or damaged, or are an adapter.
    """
    stem = published.rpartition(".")[0]
    for pattern in (stem, *others):
        files = [path for path in _weight_files(folder, pattern) if not re.search(exclude, path.name)]
        if len(files) > 1 and pattern != stem:
            names = ", ".join(path.name for path in files[:4])
            raise CheckpointError(f"{folder} has {len(files)} files that could be {what}: {names}; leave one of them")
        if files:
            return read_weights(files[0])
    shards = sum(_SHARD.search(path.name) is not None for path in folder.glob(f"{stem}-*"))
    is_sharded = published.endswith(".safetensors")
    names = f"{published} or {published}{INDEX_ENDING} with its shards" if is_sharded else published
    raise CheckpointError(
        f"{folder} lacks {what}: expected {names}, "
        f"found {f'{shards} shards without their index' if shards else 'nothing of that name'}; {_COPY}"
    )


def read_weights(path: Path) -> Weights:
    """Reads the names, shapes and types of a file of weights, or of the shards that an index names.

    Prefixes of wrappers and trainers are dropped. Raises CheckpointError for what is damaged, and for an adapter.
    """
    weights = _read_index(path) if path.name.endswith(INDEX_ENDING) else read_file(path)
    check_no_adapter(weights, path)
    return _without_prefixes(weights)


def check_no_adapter(names: Iterable[str], path: Path) -> None:
    """Raises CheckpointError where the names of a file's tensors are those of a LoRA adapter, which is no model."""
    names = list(names)
    adapting = sum(_ADAPTER_NAME.search(name) is not None for name in names)
    if adapting and any(".base_layer." in name for name in names):
        raise CheckpointError(
            f"{path} holds a model with an adapter that is not merged (names with base_layer); merge it before saving, "
            "or save the adapter as an adapter"
        )
    if adapting:
        raise CheckpointError(
            f"{path} is a LoRA adapter and no model ({adapting} of its {len(names)} tensors change layers of another "
            "one); give the model that it was trained on, with the adapter as --lora, or one of this project to "
            "`uniavgen train --init`"
        )


def read_names(file: Path) -> list[str]:
    """Returns the names of the tensors in a file of safetensors. Raises CheckpointError where it is damaged."""
    return list(_open_safetensors(file).keys())


def read_metadata(file: Path) -> dict[str, str]:
    """Returns the texts in the header of a file of safetensors. Raises CheckpointError where it is damaged."""
    return _open_safetensors(file).metadata() or {}


def read_tensors(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Reads values, each file once; they are mapped into memory as long as they are referenced.

    Raises CheckpointError where a file is damaged, or has changed since its names were read.
    """
    values: dict[str, Tensor] = {}
    for file in sorted({tensor.file for tensor in tensors.values()}):
        read = _open_safetensors(file).get_tensor if _is_safetensors(file) else _unpickle(file).__getitem__
        for name, tensor in tensors.items():
            if tensor.file == file:
                with _reading(file):
                    values[name] = read(tensor.key)
                if tuple(values[name].shape) != tensor.shape or values[name].dtype != tensor.dtype:
                    raise CheckpointError(f"{file} has changed while it was read; start again")
    return values


def check_finite(named: Iterable[tuple[str, Tensor]], where: object) -> None:
    """Raises CheckpointError where a floating-point tensor holds NaN or an infinity."""
    for name, value in named:
        # One pass without a copy: NaN passes through minimum and maximum.
        if value.is_floating_point() and value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all():
            raise CheckpointError(f"{name} in {where} holds values that are no numbers (NaN or infinity); {_COPY}")


def _weight_files(folder: Path, pattern: str) -> list[Path]:
    """Returns files and indices of weights; of the endings that a pattern matches, those of the first."""
    for ending in _ENDINGS:
        if files := sorted(path for path in folder.glob(pattern + ending) if not _SHARD.search(path.name)):
            return files
    return []


def read_file(file: Path) -> Weights:
    """Reads the names, shapes and types of the tensors of one file, which may be an adapter. Raises CheckpointError."""
    if not _is_safetensors(file):
        state = _unpickle(file)
        return {key: StoredTensor(file, key, tuple(value.shape), value.dtype) for key, value in state.items()}
    weights: Weights = {}
    opened = _open_safetensors(file)
    for key in opened.keys():  # noqa: SIM118 - the library's handle is no mapping
        header = opened.get_slice(key)
        if key in _NO_WEIGHTS:
            continue
        dtypes = DTYPES | _ALPHA_DTYPES if key.endswith(".alpha") else DTYPES
        if header.get_dtype() not in dtypes:
            raise CheckpointError(
                f"{key} in {file} is stored as {header.get_dtype()}, expected {', '.join(DTYPES)}; convert the "
                "original weights, not quantised ones"
            )
        weights[key] = StoredTensor(file, key, tuple(header.get_shape()), dtypes[header.get_dtype()])
    return weights


def _read_index(index: Path) -> Weights:
    listed = read_json(index, CheckpointError, _COPY).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(_is_inside(name) for name in listed.values()):
        raise CheckpointError(f"{index} is no index of shards: it has no weight_map of file names; {_COPY}")
    files = sorted(set(listed.values()))
    absent = [name for name in files if not (index.parent / name).exists()]
    if absent:
        raise CheckpointError(
            f"{len(absent)} of the {len(files)} shards that {index} names are missing: {', '.join(absent[:4])}; "
            "copy or download them"
        )
    weights: Weights = {}
    for name in files:
        for key, tensor in read_file(index.parent / name).items():
            if key in weights:
                raise CheckpointError(f"{key} stands in both {weights[key].file} and {tensor.file}; remove one of them")
            weights[key] = tensor
    astray = [k for k, name in listed.items() if k not in weights or weights[k].file != index.parent / name]
    if astray:
        raise CheckpointError(
            f"{index} and its shards disagree about {len(astray)} tensors, first {astray[0]}; download both again"
        )
    return weights


def _is_inside(name: object) -> bool:
    """Returns whether a file name of an index stays in its folder."""
    return isinstance(name, str) and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts


def _without_prefixes(weights: Weights) -> Weights:
    names = {key: _WRAPPERS.sub("", key) for key in weights}
    while (first := {name.partition(".")[0] for name in names.values()}) and first <= _PREFIXES and len(first) == 1:
        names = {key: name.partition(".")[2] for key, name in names.items()}
    renamed = {names[key]: tensor for key, tensor in weights.items()}
    if len(renamed) < len(weights):
        twice = next(key for key, name in names.items() if renamed[name].key != key)
        raise CheckpointError(f"{twice} in {weights[twice].file} is there under two prefixes; leave one of them")
    return renamed


def _is_safetensors(file: Path) -> bool:
    return file.suffix == ".safetensors"


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raises CheckpointError for what safetensors and the operating system say of a file."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {os_error_text(error)}") from error
    except RuntimeError as error:
        raise _unmapped(file, error) from error
    except SafetensorError as error:
        detail = str(error).rpartition(": ")[2]
        size = file.stat().st_size
        raise CheckpointError(f"{file} of {size} bytes is cut short or damaged ({detail}); {_COPY}") from error


def _open_safetensors(file: Path) -> Any:
    check_regular_file(file, CheckpointError)
    with _reading(file):
        return safe_open(file, framework="pt")


def _unmapped(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} of {file.stat().st_size / 1e9:.1f} GB cannot be mapped into memory "
        f"({first_line(error).rpartition(': ')[2]}); use a machine with more, or let Linux promise more than it has "
        "(vm.overcommit_memory=1)"
    )


def _unpickle(file: Path) -> dict[str, Tensor]:
    """Returns the flat dictionary of tensors that a file of `torch.save` holds, mapped into memory."""
    check_regular_file(file, CheckpointError)
    with _reading(file), file.open("rb") as opened:
        if opened.read(2) != b"PK":
            raise CheckpointError(
                f"{file} is no file of torch.save, or of its format before torch 1.6; download it again, or load and "
                "save it with a current torch"
            )
    try:
        state = torch.load(file, mmap=True, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds pickled code or objects beside tensors and is not opened; get it from its original place"
        ) from error
    except PICKLE_ERRORS as error:
        if "unable to mmap" in str(error):
            raise _unmapped(file, error) from error
        detail = first_line(error).partition(". ")[0]
        raise CheckpointError(f"{file} is cut short or damaged ({detail}); {_COPY}") from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} is no flat dictionary of tensors; give the file as it was published")
    foreign = [name for name, value in state.items() if value.dtype not in DTYPES.values()]
    if foreign:
        raise CheckpointError(
            f"{foreign[0]} in {file} is stored as {state[foreign[0]].dtype}; convert the original weights, not "
            "quantised ones"
        )
    return state
