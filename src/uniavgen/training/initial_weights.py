"""Weights that a run begins with: of an earlier run, of a saved model, of one branch, or of an adapter."""

from pathlib import Path

from uniavgen.artifacts import path_exists
from uniavgen.checkpoint.lora import is_adapter, load_adapter
from uniavgen.checkpoint.partial_init import is_partial_init, load_partial_init
from uniavgen.checkpoint.weight_shards import TRANSFORMER_STEM
from uniavgen.checkpoint.weights import check_finite, find_weights, read_tensors
from uniavgen.config import parse
from uniavgen.errors import CheckpointError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpoint_files import checkpoints, is_checkpoint
from uniavgen.training.config import LoRAConfig
from uniavgen.training.lora import insert_adapter
from uniavgen.training.state import untied_weights
from uniavgen.training.stored_weights import StoredWeights


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
    elif path_exists(saved / "config.json"):
        _load_saved(model, saved, source)
    else:
        _load_checkpoint(model, find_checkpoint(source))


def find_checkpoint(source: Path) -> Path:
    """Returns a checkpoint itself, or the last one of a run's folder. Raises CheckpointError where there is none."""
    if is_checkpoint(source):
        return source
    saved = checkpoints(source / "checkpoints")
    if not saved:
        raise _no_weights(source)
    return saved[-1]


def _load_saved(model: UniAVGenTransformer, saved: Path, source: Path) -> None:
    weights = read_tensors(find_weights(saved, "a saved transformer", f"{TRANSFORMER_STEM}.safetensors"))
    check_finite(weights.items(), source)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _unfit(source, " ".join(str(error).split())[:200]) from error


def _load_checkpoint(model: UniAVGenTransformer, checkpoint: Path) -> None:
    stored = StoredWeights.open(checkpoint)
    adapter = stored.record.settings.get("train", {}).get("lora")
    if adapter is not None:
        insert_adapter(model, parse(LoRAConfig, adapter, origin=str(checkpoint)))
    targets = dict(untied_weights(model))
    wrong = sorted({*stored.tensors} ^ {*targets}) or [
        name for name, target in targets.items() if target.shape != stored.tensors[name].size
    ]
    if wrong:
        raise _unfit(checkpoint, f"{len(wrong)} parameters differ, first {wrong[0]}")
    stored.load(targets)


def _unfit(source: Path, detail: str) -> CheckpointError:
    return CheckpointError(f"the weights of {source} do not fit this model ({detail}); name another --init")


def _no_weights(source: Path) -> CheckpointError:
    return CheckpointError(f"there are no weights in {source}; give a run's folder, a checkpoint or a model")
