"""Files of a converted model, known in every byte before the first is written.

safetensors' own writer takes all tensors of a file at once; this one takes them one after the other out of their
sources and makes the same bytes, so that memory does not grow with a file.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from huggingface_hub import split_state_dict_into_shards_factory

from uniavgen.checkpoint.keymap import Shape
from uniavgen.checkpoint.stores import DTYPES, StoredWeights

_CHUNK: Final = 2**24
"""Numbers that are converted at a time."""
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}
# safetensors orders by type, then by name: F32 before BF16 before F16.
_ORDER: Final = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


@dataclass(frozen=True, kw_only=True)
class ConvertedTensor:
    """A parameter of ours and where it comes from."""

    name: str
    shape: Shape
    dtype: torch.dtype
    """As it is written."""
    weights: StoredWeights
    source_name: str

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes, a piece at a time."""
        for piece in self.weights.pieces(self.source_name, _CHUNK):
            # A view as bytes, because numpy has no bfloat16.
            yield memoryview(piece.to(self.dtype).contiguous().view(torch.uint8).numpy())

    def described(self) -> list[Any]:
        """What decides its bytes."""
        stored = self.weights.tensors[self.source_name]
        return [self.name, list(self.shape), str(self.dtype), self.source_name, str(stored.file.absolute())]


@dataclass(frozen=True)
class TextFile:
    """A small file: settings, an index, a tokenizer."""

    path: str
    """Relative to the model's folder."""
    content: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.content)

    def chunks(self) -> Iterator[bytes]:
        yield self.content

    def described(self) -> list[Any]:
        """What decides its bytes."""
        return [self.path, self.content.decode("utf-8", "backslashreplace")]


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file."""

    path: str
    """Relative to the model's folder."""
    tensors: tuple[ConvertedTensor, ...]

    @property
    def num_bytes(self) -> int:
        return len(self._header) + sum(tensor.num_bytes for tensor in self.tensors)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The file from its first byte to its last, as `safetensors.torch.save_file` writes it."""
        yield self._header
        for tensor in self._ordered:
            yield from tensor.chunks()

    def described(self) -> list[Any]:
        """What decides its bytes."""
        return [self.path, [tensor.described() for tensor in self._ordered]]

    @cached_property
    def _ordered(self) -> list[ConvertedTensor]:
        return sorted(self.tensors, key=lambda tensor: (_ORDER[tensor.dtype], tensor.name))

    @cached_property
    def _header(self) -> bytes:
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        start = 0
        for tensor in self._ordered:
            stop = start + tensor.num_bytes
            entries[tensor.name] = {
                "dtype": _NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, stop],
            }
            start = stop
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


OutputFile = TextFile | WeightFile


def weight_files(folder: str, stem: str, tensors: Sequence[ConvertedTensor], shard_bytes: int) -> list[OutputFile]:
    """One file of weights, or shards of at most `shard_bytes` (or one tensor) with the index that loaders expect."""
    prefix = f"{folder}/" if folder else ""
    split = split_state_dict_into_shards_factory(
        {tensor.name: tensor for tensor in tensors},
        get_storage_size=lambda tensor: tensor.num_bytes,
        filename_pattern=f"{stem}{{suffix}}.safetensors",
        max_shard_size=shard_bytes,
    )
    by_name = {tensor.name: tensor for tensor in tensors}
    files: list[OutputFile] = [
        WeightFile(prefix + file, tuple(by_name[name] for name in names))
        for file, names in split.filename_to_tensors.items()
    ]
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        files.append(json_file(f"{prefix}{stem}.safetensors.index.json", index))
    return files


def json_file(path: str, data: Any) -> TextFile:
    """Settings as diffusers writes them."""
    return TextFile(path, (json.dumps(data, indent=2, sort_keys=True) + "\n").encode())
