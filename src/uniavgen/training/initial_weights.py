"""Weights that a run begins with: of an earlier run, of a saved model, of one branch, or of an adapter."""

from pathlib import Path

from torch import Tensor

from uniavgen.artifacts import path_exists
from uniavgen.checkpoint.lora import is_adapter, load_adapter
from uniavgen.checkpoint.partial_init import is_partial_init, load_partial_init
from uniavgen.checkpoint.weights import check_finite, find_weights, read_tensors, read_weights
from uniavgen.errors import CheckpointError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.state import checkpoints


def load_initial_weights(model: UniAVGenTransformer, source: Path) -> None:
    """Loads the weights of a run's folder, a checkpoint, a saved transformer or an adapter; averaged ones if there are.

    Partial initial weights of `uniavgen convert` fill one branch and leave the rest as it is. Raises CheckpointError
    where there are no weights, where they are damaged, or where they belong to a model of other sizes.
    """
    if not path_exists(source):
        raise _no_weights(source)
    if is_partial_init(source):
        load_partial_init(model, source)
        return
    saved = source / "transformer" if (source / "transformer").is_dir() else source
    if is_adapter(saved):
        load_adapter(model, saved)
        return
    weights = _stored_weights(source, saved)
    check_finite(weights.items(), source)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the weights of {source} do not fit this model ({detail}); name another --init"
        ) from error


def _stored_weights(source: Path, saved: Path) -> dict[str, Tensor]:
    """Returns the weights of a saved transformer, of a checkpoint, or of the last checkpoint of a run's folder."""
    if path_exists(saved / "config.json"):
        return read_tensors(find_weights(saved, "a saved transformer", "diffusion_pytorch_model.safetensors"))
    checkpoint = next(iter(checkpoints(source / "checkpoints")[::-1]), source)
    if not (checkpoint / "model.safetensors").is_file():
        raise _no_weights(source)
    weights = read_tensors(read_weights(checkpoint / "model.safetensors"))
    if (checkpoint / "ema.safetensors").is_file():
        weights |= read_tensors(read_weights(checkpoint / "ema.safetensors"))
    return weights


def _no_weights(source: Path) -> CheckpointError:
    return CheckpointError(f"there are no weights in {source}; give a run's folder, a checkpoint or a model")
