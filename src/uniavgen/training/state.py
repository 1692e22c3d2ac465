"""Everything that a run must keep to go on bit for bit. Random numbers need no state: see `randomness`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from uniavgen.checkpoint.lora import has_adapter, is_lora_parameter
from uniavgen.distributed import raise_first_error
from uniavgen.errors import CheckpointError
from uniavgen.training.checkpoint_files import (
    EMA_WEIGHTS,
    MODEL,
    OPTIMIZER,
    check_files,
    load_tensors,
    read_record,
    stored_tensors,
)
from uniavgen.training.ema import EMA


@dataclass(kw_only=True)
class TrainState:
    """What training changes. Weights, averages and moments may be sharded."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | None = None
    step: int = 0
    """Steps done."""

    def __post_init__(self) -> None:
        create_moments(self.optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """Returns all weights, averages and moments by their names in a checkpoint; nothing is copied.

        Tied weights (the caption encoder's embedding) are there once.
        """
        found = {f"{MODEL}{name}": value for name, value in untied_weights(self.model)}
        if self.ema is not None:
            found |= {f"{EMA_WEIGHTS}{name}": value for name, value in self.ema.averages.items()}
        moments = self.optimizer.state
        for name, parameter in self.model.named_parameters():
            for key, value in moments.get(parameter, {}).items():
                found |= _plain_tensors(f"{OPTIMIZER}{name}/{key}", value)
        return found

    def local_tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of which this process stores a part: one beyond the rows of a small tensor has none."""
        return {name: value for name, value in self.tensors().items() if _local(value).numel()}


@torch.no_grad()
def create_moments(optimizer: torch.optim.Optimizer) -> None:
    """Creates the moments of every parameter, zero, which an optimiser otherwise does when a gradient reaches it.

    So all checkpoints of a run hold the same tensors, also of parameters that no loss has reached yet.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for moments in optimizer.state.values():
        moments["step"].zero_()


def restore(
    state: TrainState,
    checkpoint: Path,
    num_steps: int,
    samples: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    group: dist.ProcessGroup | None = None,
) -> None:
    """Sets `state` to a checkpoint of the same run, which has `num_steps` steps. All processes of `group` call it.

    samples: what decides which samples a step draws; `force` goes on where that has changed.
    Raises CheckpointError where the checkpoint is damaged, of another model, or beyond the last step, and where a
    change would repeat or skip samples.
    """
    record = read_record(checkpoint)
    if record.step > num_steps:
        raise CheckpointError(f"{checkpoint} is beyond the last step of this run, {num_steps}; set more steps")
    if samples is not None and not force:
        _check_same_samples(record.samples, samples, checkpoint)
    check_files(checkpoint, record, group)
    tensors = state.local_tensors()
    raise_first_error(_size_error(tensors, checkpoint, is_first=group is None or dist.get_rank(group) == 0), group)
    load_tensors(tensors, checkpoint, group)
    state.step = record.step


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the first tensor with NaN or an infinite value; None where there is none.

    Looks at this process's shards only.
    """
    local = {name: _local(value) for name, value in tensors.items()}
    # One answer for all: a GPU is waited for once.
    finite = [value.isfinite().all().reshape(()) for value in local.values()]
    if not finite or bool(torch.stack([value.to(finite[0].device) for value in finite]).all()):
        return None
    return next(name for name, value in zip(local, finite, strict=True) if not bool(value))


def untied_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields weights and buffers that are saved, each under the first of its names.

    Of a model with an adapter these are the adapter's alone, since those below it never change.
    """
    checked: set[int] = set()
    is_adapted = has_adapter(model)
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in checked and (is_lora_parameter(name) or not is_adapted):
            checked.add(id(value))
            yield name, value.detach()


def _plain_tensors(name: str, value: Tensor) -> dict[str, Tensor]:
    """Returns a moment itself, or the codes and scales of one in 8 bits, which files have no type for.

    Rows of such a moment are whole blocks, see `adamw8bit`, so that scales by rows are cut as codes are.
    """
    local = _local(value)
    # Not by the class, because torchao may be missing.
    codes, scale = getattr(local, "codes", None), getattr(local, "scale", None)
    if codes is None or scale is None:
        return {name: value}
    plain = {f"{name}.codes": codes, f"{name}.scale": scale.view(codes.shape[0], -1)}
    return {key: _sharded_like(value, part) if isinstance(value, DTensor) else part for key, part in plain.items()}


def _sharded_like(value: DTensor, part: Tensor) -> DTensor:
    """Returns a tensor whose shard in this process is `part`, cut by rows as `value` is."""
    whole = torch.empty((value.shape[0], *part.shape[1:]), device="meta")
    return DTensor.from_local(
        part, value.device_mesh, value.placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _check_same_samples(stored: Mapping[str, Any], current: Mapping[str, Any], checkpoint: Path) -> None:
    changed = [name for name in current if stored.get(name) != current[name]]
    if changed:
        name = changed[0]
        others = f" (and {', '.join(changed[1:])})" if changed[1:] else ""
        raise CheckpointError(
            f"{checkpoint} was trained with {name} {_shown(stored.get(name))}, now it is {_shown(current[name])}"
            f"{others}, which would repeat or skip samples; restore the setting, or add --force"
        )


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _size_error(expected: Mapping[str, Tensor], checkpoint: Path, is_first: bool) -> CheckpointError | None:
    """Returns the error where a checkpoint holds other names or sizes.

    is_first: whether this is the first process, which has a part of every tensor.
    """
    stored = stored_tensors(checkpoint)
    wrong = sorted({*expected} - {*stored}) or (sorted({*stored} - {*expected}) if is_first else [])
    wrong += [name for name, tensor in expected.items() if name in stored and stored[name].size != tensor.shape]
    if not wrong:
        return None
    return CheckpointError(
        f"{checkpoint} does not fit this run, which trains other weights ({wrong[0]}); use another --out"
    )
