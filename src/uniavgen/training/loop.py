"""The order of things in training, and nothing else: losses, gradients, optimiser, average, callbacks."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from uniavgen.data.dataset import Batch
from uniavgen.training.config import TrainConfig
from uniavgen.training.losses import Losses
from uniavgen.training.optimizer import learning_rate
from uniavgen.training.state import TrainState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What callbacks get after a step."""

    step: int
    """Steps done, from 1."""
    num_steps: int
    task: str
    losses: dict[str, float]
    """Parts and `total`."""
    lr: float
    grad_norm: float
    seconds: float


Callback = Callable[[StepRecord, TrainState], None]
"""Logs, saves or samples after a step. It cannot change training."""
StepFunction = Callable[[Batch, int], Losses]
"""Batch and step (from 0) to losses."""


def train(
    state: TrainState,
    step_function: StepFunction,
    batches: Iterable[Batch],
    config: TrainConfig,
    callbacks: Iterable[Callback] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Train from `state.step` to `config.train.steps`, or until `stopped()` says so between two steps.

    `batches` begins at `state.step`. A step whose gradient is not finite changes no weights.
    """
    callbacks = tuple(callbacks)
    state.model.train()
    num_steps = config.train.steps
    for batch in batches:
        if state.step >= num_steps or stopped():
            break
        began = time.perf_counter()
        lr = learning_rate(config.optim, state.step, num_steps)
        losses = step_function(batch, state.step)
        total = losses.total(config.stage.losses, state.step, num_steps)
        norm = _update(state, total, lr, config.optim.max_grad_norm)
        state.step += 1
        if state.ema is not None:
            state.ema.update(state.model, state.step)
        record = StepRecord(
            step=state.step,
            num_steps=num_steps,
            task=batch.spec.task.value,
            losses={name: float(part.detach()) for name, part in (losses.named() | {"total": total}).items()},
            lr=lr,
            grad_norm=norm,
            seconds=time.perf_counter() - began,
        )
        for callback in callbacks:
            callback(record, state)


def _update(state: TrainState, total: torch.Tensor, lr: float, max_grad_norm: float) -> float:
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    norm = float(nn.utils.clip_grad_norm_(state.model.parameters(), max_grad_norm))
    if not math.isfinite(norm):
        logger.warning("step %d has a gradient of norm %s; its update is left out", state.step + 1, norm)
        return norm
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    return norm
