"""How perception networks are trained: settings, initial weights, and a run on the training loop."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from annotated_types import Le
from torch import nn

from uniavgen.config import Positive, PositiveInt
from uniavgen.perception.layers import DepthwiseBlock, DilatedConvBlock, FullConvBlock
from uniavgen.training.callbacks import NonFiniteGuard
from uniavgen.training.loop import Callback, train
from uniavgen.training.objective import Objective
from uniavgen.training.optimizer import AdamWConfig, LearningRateSchedule, build_optimizer
from uniavgen.training.state import TrainState

BatchT = TypeVar("BatchT")
GUARD_EVERY = 100
"""Steps between two checks that losses and gradients are finite."""


@dataclass(frozen=True, kw_only=True)
class PerceptionTrainConfig(AdamWConfig):
    """Steps and AdamW of a perception network.

    The rate rises over the first 5 % of the steps, then falls to 0 along a half cosine.
    """

    steps: PositiveInt
    lr: Annotated[Positive, Le(1.0)] = 2e-3

    def schedule(self) -> LearningRateSchedule:
        """Returns the learning rate of all steps."""
        warmup_steps = max(self.steps // 20, 1)
        return LearningRateSchedule(
            peak=self.lr, num_steps=self.steps, warmup_steps=warmup_steps, decay_start=warmup_steps, decay="cosine"
        )


def train_network(objective: Objective[BatchT], config: PerceptionTrainConfig, callbacks: Iterable[Callback]) -> None:
    """Trains the model of an objective from its present weights to `config.steps`; it is in eval mode then."""
    state = TrainState(model=objective.model, optimizer=build_optimizer(objective.model, config))
    guard = NonFiniteGuard(every=GUARD_EVERY, max_in_a_row=config.max_skipped_steps)
    train(
        objective,
        state,
        config.schedule(),
        max_grad_norm=config.max_grad_norm,
        callbacks=(guard, *callbacks),
    )
    objective.model.eval()


def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Draws initial weights from the generator; residual blocks begin as the identity."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, (DepthwiseBlock, FullConvBlock, DilatedConvBlock)):
            nn.init.zeros_(module.last.weight)
