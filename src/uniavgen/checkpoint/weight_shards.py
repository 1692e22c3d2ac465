"""Writes weights as diffusers and transformers do, with no more than one file of them in memory."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor

from uniavgen.checkpoint.keymap import Shape
from uniavgen.checkpoint.weights import INDEX_ENDING, check_finite

SHARD_BYTES: Final = 2 * 10**9
TRANSFORMER_STEM: Final = "diffusion_pytorch_model"
"""Name of the files of a saved transformer, without the ending. [diffusers]"""


def write_weight_shards(
    folder: Path,
    stem: str,
    tensors: Mapping[str, tuple[Shape, torch.dtype]],
    read: Callable[[Sequence[str]], Mapping[str, Tensor]],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes `STEM.safetensors`, or shards of at most `shard_bytes` (or one tensor) with the index that loaders expect.

    tensors: shape and type, as written, by name. read: returns the values of some names, of any floating-point type.
    Raises CheckpointError for values that are no numbers, before or after their conversion.
    """
    split = split_state_dict_into_shards_factory(
        dict(tensors),
        get_storage_size=lambda tensor: math.prod(tensor[0]) * tensor[1].itemsize,
        filename_pattern=f"{stem}{{suffix}}.safetensors",
        max_shard_size=shard_bytes,
    )
    for file, names in split.filename_to_tensors.items():
        values = {name: value.to(tensors[name][1]).contiguous() for name, value in read(names).items()}
        check_finite(((f"{name} as {value.dtype}", value) for name, value in values.items()), folder / file)
        save_file(values, folder / file, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{stem}.safetensors{INDEX_ENDING}").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
