"""Everything that a run must keep to go on bit for bit, and its checkpoints: whole folders or nothing.

A checkpoint `OUT/step-00001000/` holds `model.safetensors` (weights as trained), `ema.safetensors` (where weights are
averaged), `optimizer.safetensors` (`PARAMETER/MOMENT`), and `train.json` (step and settings). The same state gives the
same bytes. Random numbers need no state: see `randomness`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from uniavgen.artifacts import atomic_folder, check_regular_file, first_line, path_exists, read_json
from uniavgen.errors import CheckpointError, TrainingError
from uniavgen.training.ema import EMA

PREFIX = "step-"
MODEL, EMA_WEIGHTS, OPTIMIZER, SETTINGS = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "train.json"
_REMEDY = "delete this checkpoint to go on from an earlier one, or use another --out"


@dataclass(kw_only=True)
class TrainState:
    """What training changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None = None
    step: int = 0
    """Steps done."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields name and value of all weights, averages and moments."""
        yield from self.model.state_dict().items()
        if self.ema is not None:
            yield from self.ema.averages.items()
        yield from optimizer_tensors(self).items()


def save(state: TrainState, folder: Path, settings: Mapping[str, Any], keep: int) -> Path:
    """Writes a checkpoint below `folder`, deletes all but the last `keep`, and returns the checkpoint's folder.

    Raises TrainingError where a value is not finite, and writes nothing then.
    """
    final = folder / f"{PREFIX}{state.step:08d}"
    if not final.exists():
        damaged = first_not_finite(state.tensors())
        if damaged is not None:
            raise TrainingError(
                f"the weights are not finite after step {state.step} (first {damaged}) and are not saved; lower the "
                "learning rate or check the data"
            )
        with atomic_folder(final) as partial:
            # `save_model` writes tied weights (the caption encoder's embedding) once.
            save_model(state.model, str(partial / MODEL))
            if state.ema is not None:
                averages = {name: average.contiguous() for name, average in state.ema.averages.items()}
                save_file(averages, partial / EMA_WEIGHTS)
            save_file(optimizer_tensors(state), partial / OPTIMIZER)
            (partial / SETTINGS).write_text(json.dumps({"step": state.step, "settings": dict(settings)}, indent=1))
    remove_old(folder, keep)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Returns the complete checkpoints below a folder, oldest first; none where it does not exist.

    Raises CheckpointError where it is something else than a folder.
    """
    if path_exists(folder) and not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder, expected the checkpoints of a run; move it away")
    folders = (path for path in folder.glob(f"{PREFIX}*") if path.is_dir())
    return sorted(folders, key=lambda path: (len(path.name), path.name))


def remove_old(folder: Path, keep: int) -> None:
    """Deletes all but the last `keep` checkpoints, and what a killed process has left of others.

    Only for the process that holds the run: another one's locks would be deleted too.
    """
    for path in (*checkpoints(folder)[:-keep], *folder.glob(f".{PREFIX}*.partial")):
        shutil.rmtree(path)
    for lock in folder.glob(".*.lock"):
        lock.unlink()


def restore(state: TrainState, checkpoint: Path, num_steps: int) -> None:
    """Sets `state` to a checkpoint of the same run, which has `num_steps` steps.

    Raises CheckpointError where the checkpoint is damaged, of another model, or beyond the last step.
    """
    step = _step(checkpoint, num_steps)
    if not (checkpoint / OPTIMIZER).exists() and (checkpoint / "optimizer.pt").exists():
        raise CheckpointError(
            f"{checkpoint} was saved by an earlier version, whose runs cannot go on; begin another --out with its "
            "weights: --init"
        )
    moments = read_tensors(checkpoint / OPTIMIZER)
    averages = {} if state.ema is None else read_tensors(checkpoint / EMA_WEIGHTS)
    optimizer_state = _optimizer_state(state, moments, checkpoint)
    if state.ema is not None:
        _check_shapes(averages, state.ema.averages, checkpoint / EMA_WEIGHTS)
    _load_weights(state.model, checkpoint / MODEL)
    state.optimizer.load_state_dict(optimizer_state)
    if state.ema is not None:
        for name, average in state.ema.averages.items():
            average.copy_(averages[name])
    state.step = step


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file; raises CheckpointError where it is missing, damaged or not finite."""
    check_regular_file(file, CheckpointError)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, first_line(error)) from error
    _check_finite(tensors, file)
    return tensors


def _load_weights(model: nn.Module, file: Path) -> None:
    check_regular_file(file, CheckpointError)
    try:
        load_model(model, file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, first_line(error)) from error
    except RuntimeError as error:
        # What torch raises for names and shapes that differ.
        raise CheckpointError(f"{file} does not fit this run ({first_line(error)}); use another --out") from error
    _check_finite(model.state_dict(), file)


def _check_finite(tensors: Mapping[str, Tensor], file: Path) -> None:
    name = first_not_finite(tensors.items())
    if name is not None:
        raise _damaged(file, f"{name} holds values that are not finite")


def _damaged(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{file} is damaged ({reason}); {_REMEDY}")


def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Returns the name of the first tensor with NaN or an infinite value; None where there is none."""
    return next((name for name, value in tensors if not bool(value.isfinite().all())), None)


def optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """Returns the moments of each parameter that has been trained, as `PARAMETER/MOMENT`."""
    moments = state.optimizer.state
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in state.model.named_parameters()
        if parameter in moments
        for key, value in moments[parameter].items()
    }


def _optimizer_state(state: TrainState, moments: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Any]:
    """Returns what `Optimizer.load_state_dict` takes, with the groups of this run."""
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    current = state.optimizer.state_dict()
    # The numbers that torch gives to parameters follow their order in the groups.
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    shapes, stored = {}, {}
    for number, parameter in enumerate(parameters):
        one = {key: f"{names[parameter]}/{key}" for key in ("step", "exp_avg", "exp_avg_sq")}
        # A parameter that no loss has reached yet has no moments.
        if any(name in moments for name in one.values()):
            shapes |= {one["step"]: torch.zeros(()), one["exp_avg"]: parameter, one["exp_avg_sq"]: parameter}
            stored[number] = {key: moments.get(name) for key, name in one.items()}
    _check_shapes(moments, shapes, checkpoint / OPTIMIZER)
    return {"state": stored, "param_groups": current["param_groups"]}


def _check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Raises CheckpointError where names or shapes differ."""
    wrong = sorted({*tensors} ^ {*expected}) or [n for n in expected if tensors[n].shape != expected[n].shape]
    if wrong:
        raise CheckpointError(
            f"{file} does not fit this run, which trains other weights ({wrong[0]}); use another --out"
        )


def _step(checkpoint: Path, num_steps: int) -> int:
    """Returns the steps that a checkpoint has done, which its name and its settings say."""
    step = read_json(checkpoint / SETTINGS, CheckpointError, _REMEDY).get("step")
    if type(step) is not int or checkpoint.name != f"{PREFIX}{step:08d}":
        raise CheckpointError(f"{checkpoint / SETTINGS} has the step {step!r}, unlike the folder's name; {_REMEDY}")
    if step > num_steps:
        raise CheckpointError(f"{checkpoint} is beyond the last step of this run, {num_steps}; set more steps")
    return step
