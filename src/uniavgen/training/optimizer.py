"""AdamW, the schedule of its learning rate, and which parameters are trained."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import torch
from annotated_types import Le
from torch import nn

from uniavgen.config import Config, Factor, NonNegative, Positive, PositiveInt
from uniavgen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AdamWConfig(Config):
    """AdamW with clipped gradients."""

    lr: Annotated[Positive, Le(1.0)]
    """Peak learning rate."""
    betas: tuple[Factor, Factor] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    """Of matrices and kernels; not of biases, norms and tables."""
    max_grad_norm: Positive = 1.0
    max_skipped_steps: PositiveInt = 100
    """Steps in a row whose loss or gradient is not finite: as many end the run. Each of them changes no weights."""


@dataclass(frozen=True, kw_only=True)
class LearningRateSchedule:
    """lr(n) = peak * min((n + 1) / warmup_steps, 1) * (final_share + (1 - final_share) * decay(n)), n from 0.

    decay(n) is 1 up to `decay_start`, then falls to 0 at `num_steps`: linearly, or as (1 + cos(pi x)) / 2 where x
    rises from 0 to 1.
    """

    peak: float
    num_steps: int
    warmup_steps: int
    decay_start: int | float
    """Step at which the decay begins; `num_steps` for a constant rate after the warm-up."""
    decay: Literal["linear", "cosine"] = "linear"
    final_share: float = 0.0
    """The last rate, relative to `peak`."""

    def at(self, step: int) -> float:
        """Returns the learning rate of a step (from 0)."""
        warmup = min((step + 1) / max(self.warmup_steps, 1), 1.0)
        length = max(self.num_steps - self.decay_start, 1)
        match self.decay:
            case "linear":
                decay = min((self.num_steps - step) / length, 1.0)
            case "cosine":
                progress = min(max((step - self.decay_start) / length, 0.0), 1.0)
                decay = (1 + math.cos(math.pi * progress)) / 2
        return self.peak * warmup * (self.final_share + (1 - self.final_share) * decay)


def select_trainable(model: nn.Module, patterns: Iterable[str]) -> None:
    """Lets only parameters whose name matches a pattern (as in file names) be trained.

    Raises ConfigError on a pattern that matches none.
    """
    parameters = dict(model.named_parameters())
    trainable: set[str] = set()
    for pattern in patterns:
        matching = {name for name in parameters if fnmatchcase(name, pattern)}
        if not matching:
            raise ConfigError(f"stage.trainable has '{pattern}', which no parameter of the model matches")
        trainable |= matching
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trainable)


def build_optimizer(model: nn.Module, config: AdamWConfig) -> torch.optim.AdamW:
    """Returns AdamW over the parameters that are trained; matrices and kernels decay, biases, norms and tables do
    not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # Fused, also because `loop.train` skips an update through `found_inf`, which other kernels do not know.
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
