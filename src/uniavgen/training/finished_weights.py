"""The weights that a run leaves in the end: a diffusers folder, or the adapter if one is trained."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from uniavgen.artifacts import atomic_folder
from uniavgen.checkpoint.lora import has_adapter, save_adapter
from uniavgen.checkpoint.weight_shards import SHARD_BYTES, TRANSFORMER_STEM, write_weight_shards
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext, broadcast_object
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.sharding import empty_model, full_tensor
from uniavgen.training.state import TrainState, untied_weights


def save_weights(
    state: TrainState, folder: Path, context: ParallelContext = SINGLE_PROCESS, shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes the weights to use, averaged where there is an average.

    The folder is complete or not written at all. All processes call it, the first one writes: of a sharded model it
    holds one file of at most `shard_bytes` (or one tensor) at a time. Raises OutputError where it cannot write.
    """
    model = state.model
    assert isinstance(model, UniAVGenTransformer)
    weights = {**dict(untied_weights(model)), **({} if state.ema is None else state.ema.averages)}

    def gather(names: Sequence[str]) -> dict[str, Tensor]:
        return {name: full_tensor(weights[name]).cpu() for name in names}

    if not context.is_main:
        # The first process says what it writes next, and when it has ended, for whatever reason.
        while (names := broadcast_object(None, context)) is not None:
            gather(names)
        return

    def read(names: Sequence[str]) -> dict[str, Tensor]:
        broadcast_object(list(names), context)
        return gather(names)

    try:
        with atomic_folder(folder) as partial:
            if has_adapter(model):
                save_adapter(model, partial, read(list(weights)))
            else:
                # Not `model`, whose class has another name where it is sharded.
                empty_model(model.settings, {}).save_config(partial)
                tensors = {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}
                write_weight_shards(partial, TRANSFORMER_STEM, tensors, read, shard_bytes)
    finally:
        broadcast_object(None, context)
