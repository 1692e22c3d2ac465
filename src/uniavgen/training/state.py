"""Everything that a run must keep to go on bit for bit, and its checkpoints: whole folders or nothing.

A checkpoint `OUT/step-00001000/` holds `model.safetensors` (weights as trained), `ema.safetensors` (where weights are
averaged), `optimizer.pt`, `train.json` (step and settings). Random numbers need no state: see `randomness`.
"""

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from uniavgen.artifacts import atomic_folder, first_line
from uniavgen.errors import CheckpointError
from uniavgen.training.ema import EMA


@dataclass(kw_only=True)
class TrainState:
    """What training changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None = None
    step: int = 0
    """Steps done."""


def save(state: TrainState, folder: Path, settings: Mapping[str, Any], keep: int) -> Path:
    """Writes a checkpoint below `folder`, deletes all but the last `keep`, and returns the checkpoint's folder."""
    final = folder / f"step-{state.step:08d}"
    if final.exists():
        return final
    with atomic_folder(final) as partial:
        # `save_model` writes tied weights (the caption encoder's embedding) once.
        save_model(state.model, str(partial / "model.safetensors"))
        if state.ema is not None:
            save_file(state.ema.averages, partial / "ema.safetensors")
        torch.save(state.optimizer.state_dict(), partial / "optimizer.pt")
        (partial / "train.json").write_text(json.dumps({"step": state.step, "settings": dict(settings)}, indent=1))
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Returns the complete checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def restore(state: TrainState, checkpoint: Path) -> None:
    """Sets `state` to a checkpoint of the same run; raises CheckpointError where it is damaged or of another model."""
    try:
        load_model(state.model, checkpoint / "model.safetensors")
        state.optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise _unfit(checkpoint, error) from error
    except (RuntimeError, ValueError) as error:
        # What torch raises for names, shapes and groups that differ, and for a damaged archive.
        raise _unfit(checkpoint, error) from error
    if state.ema is not None:
        averages = read_tensors(checkpoint / "ema.safetensors")
        if averages.keys() != state.ema.averages.keys():
            raise CheckpointError(f"{checkpoint} does not fit this run (it averages other weights); use another --out")
        for name, average in state.ema.averages.items():
            average.copy_(averages[name])
    try:
        state.step = int(json.loads((checkpoint / "train.json").read_text())["step"])
    except (OSError, ValueError, KeyError) as error:
        raise _unfit(checkpoint, error) from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file; raises CheckpointError where it is missing or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise _unfit(file.parent, error) from error


def _unfit(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{checkpoint} does not fit this run ({first_line(error)}); use another --out")
