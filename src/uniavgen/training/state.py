"""Everything that a run must keep to go on bit for bit, and its checkpoints: whole folders or nothing.

A checkpoint `OUT/checkpoints/step-00001000/` holds `model.safetensors` (weights as trained), `ema.safetensors`,
`optimizer.pt`, `train.json` (step and settings). Random numbers need no state: see `randomness`.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from uniavgen.artifacts import atomic_folder, first_line
from uniavgen.checkpoint.partial_init import is_partial_init, load_partial_init
from uniavgen.errors import CheckpointError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.ema import EMA


@dataclass(kw_only=True)
class TrainState:
    """What training changes."""

    model: UniAVGenTransformer
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    step: int = 0
    """Steps done."""


def save(state: TrainState, folder: Path, settings: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint below `folder` and delete all but the last `keep`; returns its folder."""
    final = folder / f"step-{state.step:08d}"
    if final.exists():
        return final
    try:
        with atomic_folder(final) as partial:
            tensors = {name: value.contiguous() for name, value in state.model.state_dict().items()}
            save_file(tensors, partial / "model.safetensors")
            if state.ema is not None:
                save_file(state.ema.averages, partial / "ema.safetensors")
            torch.save(state.optimizer.state_dict(), partial / "optimizer.pt")
            (partial / "train.json").write_text(json.dumps({"step": state.step, "settings": settings}, indent=1))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint {final} could not be written ({error}); free some space") from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def restore(state: TrainState, checkpoint: Path) -> None:
    """Bring `state` to a checkpoint of the same run; CheckpointError where it is damaged or of another model."""
    try:
        state.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        state.optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True))
        if state.ema is not None:
            averages = load_file(checkpoint / "ema.safetensors")
            for name, average in state.ema.averages.items():
                average.copy_(averages[name])
        state.step = int(json.loads((checkpoint / "train.json").read_text())["step"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(f"{checkpoint} does not fit this run ({first_line(error)}); use another --out") from error


def load_initial(model: UniAVGenTransformer, source: Path) -> None:
    """Begin with the weights of a run's folder, a checkpoint, or a saved transformer; averaged ones where there are.

    A start of `uniavgen convert` fills one branch and leaves the rest as it is. CheckpointError where there are no
    weights, where they are damaged, or where they belong to a model of other sizes.
    """
    if is_partial_init(source):
        load_partial_init(model, source)
        return
    try:
        model.load_state_dict(_weights(source))
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the weights of {source} do not fit this model ({detail}); name another --init"
        ) from None


def _weights(source: Path) -> dict[str, torch.Tensor]:
    saved = next((folder for folder in (source / "transformer", source) if (folder / "config.json").is_file()), None)
    if saved is not None:
        return UniAVGenTransformer.from_pretrained(saved).state_dict()
    checkpoint = next(iter(checkpoints(source / "checkpoints")[::-1]), source)
    if not (checkpoint / "model.safetensors").is_file():
        raise CheckpointError(f"there are no weights in {source}; give a run's folder, a checkpoint or a model")
    values = load_file(checkpoint / "model.safetensors")
    if (checkpoint / "ema.safetensors").is_file():
        values |= load_file(checkpoint / "ema.safetensors")
    return values
