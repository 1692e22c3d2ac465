"""The one training loop, for stages, codecs and perception networks: losses, gradients, optimiser, average, callbacks.

Nothing in it reads a value from the device, so a GPU is never waited for but by a callback that logs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.training.objective import DataReport, Objective
from uniavgen.training.optimizer import LearningRateSchedule, set_learning_rate
from uniavgen.training.sharding import full_tensor
from uniavgen.training.state import TrainState

BatchT = TypeVar("BatchT")


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What callbacks get after a step. Tensors are detached and stay on the device."""

    step: int
    """Steps done, from 1."""
    num_steps: int
    task: str
    """Task of the step; empty where the objective has none."""
    losses: Mapping[str, Float[Tensor, ""]]
    """Parts and `total`. A part is NaN where no clip of the step has truth for it."""
    grad_norm: Float[Tensor, ""]
    """Before clipping; the largest of several groups."""
    num_skipped: Float[Tensor, ""]
    """Steps of this call of `train` that changed no weights, because the loss or the gradient was not finite."""
    num_skipped_in_a_row: Float[Tensor, ""]
    """Of them, those up to this step without another one between; 0 where this step changed weights."""
    lr: float
    data: DataReport
    """Damaged clips, and how long the step waited for its batch."""
    seconds: float
    """Of the host, without that wait; a GPU may still be at work."""

    @cached_property
    def values(self) -> dict[str, float]:
        """The losses, `grad_norm`, `num_skipped` and `num_skipped_in_a_row` as numbers.

        Waits for the device, once a record: all numbers are copied together, and later reads get the same ones.
        """
        scalars = {
            **self.losses,
            "grad_norm": self.grad_norm,
            "num_skipped": self.num_skipped,
            "num_skipped_in_a_row": self.num_skipped_in_a_row,
        }
        numbers = torch.stack([value.float() for value in scalars.values()]).tolist()
        return dict(zip(scalars, numbers, strict=True))

    @property
    def shown_losses(self) -> dict[str, float]:
        """The losses as numbers, without parts that are NaN. See `values`."""
        return {name: self.values[name] for name in self.losses if name == "total" or not isnan(self.values[name])}


Callback = Callable[[StepRecord, TrainState], None]
"""Logs, saves or samples after a step. It cannot change training."""


def train(
    objective: Objective[BatchT],
    state: TrainState,
    schedule: LearningRateSchedule,
    *,
    max_grad_norm: float = 1.0,
    callbacks: Iterable[Callback] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Trains from `state.step` to `schedule.num_steps`, or until `stopped()` is true between two steps.

    A step whose loss or gradient is not finite changes no weights.
    """
    callbacks = tuple(callbacks)
    state.model.train()
    num_skipped, in_a_row = torch.zeros(()), torch.zeros(())
    for batch, wait_s in _timed(objective.batches(state.step, schedule.num_steps)):
        if stopped():
            break
        data = objective.report_data(batch, wait_s)
        began, lr = time.perf_counter(), schedule.at(state.step)
        state.optimizer.zero_grad(set_to_none=True)
        losses = objective.backward(batch, state.step)
        grad_norm, skipped = _update(state.optimizer, losses["total"], objective.clip_groups(), lr, max_grad_norm)
        num_skipped = num_skipped.to(skipped.device) + skipped
        in_a_row = (in_a_row.to(skipped.device) + 1) * skipped
        state.step += 1
        if state.ema is not None:
            state.ema.update(state.model, state.step)
        record = StepRecord(
            step=state.step,
            num_steps=schedule.num_steps,
            task=objective.task(batch),
            losses=losses,
            grad_norm=grad_norm,
            num_skipped=num_skipped,
            num_skipped_in_a_row=in_a_row,
            lr=lr,
            data=data,
            seconds=time.perf_counter() - began,
        )
        for callback in callbacks:
            callback(record, state)


def _timed(batches: Iterable[BatchT]) -> Iterator[tuple[BatchT, float]]:
    """Yields each batch and the seconds that it took to come."""
    iterator = iter(batches)
    while True:
        began = time.perf_counter()
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch, time.perf_counter() - began


def _update(
    optimizer: torch.optim.Optimizer,
    total: Float[Tensor, ""],
    clip_groups: Iterable[nn.Module],
    lr: float,
    max_grad_norm: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Takes one optimiser step. Returns the norm of the gradient before clipping, and 1 if the step was skipped, or
    0."""
    # Of a sharded model the norm is a sum over shards until it is asked for whole.
    norms = [full_tensor(nn.utils.clip_grad_norm_(group.parameters(), max_grad_norm)) for group in clip_groups]
    grad_norm = torch.stack(norms).max()
    set_learning_rate(optimizer, lr)
    # Fused kernels look at `found_inf` on the device and then change nothing, as for torch.amp.GradScaler: asking
    # for the norm here would wait for the device at every step.
    skipped = (~(grad_norm.isfinite() & total.isfinite())).float()
    optimizer.found_inf = skipped
    optimizer.step()
    return grad_norm, skipped
