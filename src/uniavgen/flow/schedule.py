"""Places the times of sampling steps and of training: even in t, then shifted towards noise.

    sigma = s t / (1 + (s - 1) t),   t and sigma in [0, 1], 1 is noise, s the shift

Letters: k = number of steps, n = k + 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair
from uniavgen.config import Config, Positive
from uniavgen.errors import ConfigError
from uniavgen.flow.choices import Spacing

LAST_T = 1 / 1000
"""t at which the last step of `Spacing.LINSPACE` begins. [release]"""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Config):
    """Sets the times of the sampling steps."""

    shift: Positive = 5.0
    """s. [release; Harmony for training]"""
    audio_shift: Positive | None = None
    """s of the audio; None for `shift`, so that both modalities have the same times."""
    spacing: Spacing = Spacing.LINSPACE


def shift(t: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns sigma = s t / (1 + (s - 1) t) for s = `amount`. It keeps 0 and 1; s > 1 moves times towards noise."""
    return amount * t / (1 + (amount - 1) * t)


def unshift(sigma: Float[Tensor, "..."], amount: float) -> Float[Tensor, "..."]:
    """Returns the t whose `shift` is sigma: t = sigma / (s - (s - 1) sigma)."""
    return sigma / (amount - (amount - 1) * sigma)


def sigmas(num_steps: int, config: ScheduleConfig) -> AVPair:
    """Returns `num_steps` + 1 falling times ` n` from 1 to 0 a modality, float32; step k goes from time k to k + 1."""
    if num_steps < 1:
        raise ConfigError(f"sampling takes at least one step, got {num_steps}")
    last = LAST_T if config.spacing is Spacing.LINSPACE else 1 / num_steps
    t = torch.linspace(1.0, last, num_steps, dtype=torch.float64)
    audio_shift = config.shift if config.audio_shift is None else config.audio_shift
    return AVPair(video=_falling_to_0(shift(t, config.shift)), audio=_falling_to_0(shift(t, audio_shift)))


def _falling_to_0(times: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
    return torch.cat([times, times.new_zeros(1)]).to(torch.float32)
