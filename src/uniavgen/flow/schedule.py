"""Places the times of sampling steps and of training: even in t, then shifted towards noise.

    sigma = s t / (1 + (s - 1) t),   t and sigma in [0, 1], 1 is noise, s the shift

Letters: n = number of steps + 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.config import Config, Positive
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import Spacing

LAST_T = 1 / 1000
"""t at which the last step of `Spacing.LINSPACE` begins. [release]"""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """Sets the times of the sampling steps."""

    shift: Positive = 5.0
    """s, the same for both modalities. [release; Harmony for training]"""
    spacing: Spacing = Spacing.LINSPACE


def shift(t: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns sigma = s t / (1 + (s - 1) t) for s = `amount`. It keeps 0 and 1; s > 1 moves times towards noise."""
    return amount * t / (1 + (amount - 1) * t)


def unshift(sigma: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns the t whose `shift` is sigma: t = sigma / (s - (s - 1) sigma)."""
    return sigma / (amount - (amount - 1) * sigma)


def sigmas(num_steps: int, config: ScheduleConfig) -> Float[Tensor, " n"]:
    """Returns `num_steps` + 1 falling times from 1 to 0, float32; step k goes from sigmas[k] to sigmas[k + 1]."""
    if num_steps < 1:
        raise ConfigError(f"sampling takes at least one step, got {num_steps}")
    last = LAST_T if config.spacing is Spacing.LINSPACE else 1 / num_steps
    t = torch.linspace(1.0, last, num_steps, dtype=torch.float64)
    return torch.cat([shift(t, config.shift), t.new_zeros(1)]).to(torch.float32)
