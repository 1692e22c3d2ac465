"""Times of the sampling steps and of training: uniform in t, then shifted towards noise. sigma is the shifted t."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.config import Config, Positive
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import Spacing

LAST_T = 1 / 1000
"""Where the last step of `Spacing.LINSPACE` begins. [release]"""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """Where on the path the steps stand."""

    shift: Positive = 5.0
    """One shift for both modalities. [release; Harmony for training]"""
    spacing: Spacing = Spacing.LINSPACE


def shift(t: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns sigma = s t / (1 + (s - 1) t). Keeps 0 and 1; above 1 it moves times towards noise."""
    return amount * t / (1 + (amount - 1) * t)


def unshift(sigma: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns the t whose shift is sigma."""
    return shift(sigma, 1 / amount)


def sigmas(num_steps: int, config: ScheduleConfig) -> Float[Tensor, " n"]:
    """Returns `num_steps` + 1 falling float32 times from 1 to 0; step k goes from the k-th to the next."""
    if num_steps < 1:
        raise ConfigError(f"sampling takes at least one step, got {num_steps}")
    last = LAST_T if config.spacing is Spacing.LINSPACE else 1 / num_steps
    t = torch.linspace(1.0, last, num_steps, dtype=torch.float64)
    return torch.cat([shift(t, config.shift), t.new_zeros(1)]).to(torch.float32)
