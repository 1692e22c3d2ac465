"""Exponential moving average of weights: e <- d e + (1 - d) w after every step, d growing from 0.1 to its final
value."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """The average of a module's parameters that are trained, in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.averages = {
            name: parameter.detach().float().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    def decay_at(self, step: int) -> float:
        """Returns d after `step` steps (from 1): min(decay, step / (step + 9)), so that the random start is soon
        forgotten."""
        return min(self.decay, step / (step + 9))

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes the weights after step number `step` (from 1) into the average."""
        parameters = dict(model.named_parameters())
        current = [parameters[name].detach().float() for name in self.averages]
        get_ema_multi_avg_fn(self.decay_at(step))(list(self.averages.values()), current, step)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Gives the model averaged weights while the context is open."""
        parameters = dict(model.named_parameters())
        current = {name: parameters[name].detach().clone() for name in self.averages}
        _assign(parameters, self.averages)
        try:
            yield
        finally:
            _assign(parameters, current)


@torch.no_grad()
def _assign(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)
