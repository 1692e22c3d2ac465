"""The training loop of the perception networks, and their fresh weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.perception.layers import DepthwiseBlock, DilatedConvBlock, FullConvBlock


@dataclass(frozen=True, kw_only=True)
class PerceptionTrainConfig(Config):
    """AdamW; the rate rises over the first 5 % of the steps, then follows a cosine to 0."""

    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"a network needs 1 or more training steps, got {self.steps}")


def train(
    networks: Sequence[nn.Module],
    loss: Callable[[], Float[Tensor, ""]],
    config: PerceptionTrainConfig,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Minimises `loss`, which draws its own batch at every call. The networks end in evaluation mode."""
    parameters = [value for network in networks for value in network.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, config.steps))
    for network in networks:
        network.train()
    for step in range(config.steps):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(step, value.item())
    for network in networks:
        network.eval()


def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Draws fresh weights from the generator; residual blocks begin as the identity."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, (DepthwiseBlock, FullConvBlock, DilatedConvBlock)):
            nn.init.zeros_(module.last.weight)


def _rate(step: int, steps: int) -> float:
    warm_up = max(steps // 20, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1))))
