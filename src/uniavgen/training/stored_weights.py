"""The weights of a checkpoint, averaged ones where there are, without the run: to begin another with, or to export."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from uniavgen.training.checkpoint_files import (
    EMA_WEIGHTS,
    MODEL,
    CheckpointRecord,
    check_files,
    load_tensors,
    read_record,
    stored_tensors,
)


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """What a checkpoint, whose files are checked, holds of a model; values are read when they are asked for."""

    checkpoint: Path
    record: CheckpointRecord
    tensors: Mapping[str, TensorStorageMetadata]
    """Size and type by the names of the model."""
    keys: Mapping[str, str]
    """Names in the checkpoint by the names of the model."""

    @classmethod
    def open(cls, checkpoint: Path) -> "StoredWeights":
        """Reads and checks a checkpoint. Raises CheckpointError where it is damaged."""
        record = read_record(checkpoint)
        check_files(checkpoint, record)
        stored = stored_tensors(checkpoint)
        keys = {key.removeprefix(MODEL): key for key in stored if key.startswith(MODEL)}
        keys |= {key.removeprefix(EMA_WEIGHTS): key for key in stored if key.startswith(EMA_WEIGHTS)}
        tensors = {name: stored[key] for name, key in keys.items()}
        return cls(checkpoint=checkpoint, record=record, tensors=tensors, keys=keys)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Returns the whole tensors of some names."""
        chosen = {name: self.tensors[name] for name in names}
        values = {name: torch.empty(stored.size, dtype=stored.properties.dtype) for name, stored in chosen.items()}
        self.load(values)
        return values

    def load(self, targets: Mapping[str, Tensor]) -> None:
        """Sets tensors, by the names of the model and of the stored sizes, to the stored ones."""
        load_tensors({self.keys[name]: target for name, target in targets.items()}, self.checkpoint)
