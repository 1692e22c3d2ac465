"""AdamW, the schedule of its learning rate, and which parameters are trained."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import torch
from annotated_types import Le
from torch import nn

from uniavgen.config import Config, Count, Factor, NonNegative, Positive, PositiveInt, Probability
from uniavgen.errors import ConfigError
from uniavgen.models.parts import Part, part_of


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


@dataclass(frozen=True, kw_only=True)
class PartOptimConfig(Config):
    """What a named part of the transformer is trained with, apart from the rest."""

    lr_factor: Annotated[Positive, Le(1000)] = 1.0
    """Factor on the learning rate of the step."""
    weight_decay: NonNegative | None = None
    """Weight decay of its matrices and kernels; None for `optim.weight_decay`."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig(AdamWConfig):
    """AdamW of a stage. [paper 4.1: lr, betas, eps; the rest ours]"""

    lr: Annotated[Positive, Le(1.0)] = 5e-6
    warmup_steps: Count = 500
    decay_steps: Count = 0
    """Last steps of the run, over which the rate falls to `final_lr_share`; none in the paper."""
    decay: Literal["linear", "cosine"] = "linear"
    """Form of the fall: a line, or half a cosine."""
    final_lr_share: Probability = 0.0
    """Rate at the end of the fall, relative to `lr`."""
    moments: Literal["fp32", "8bit"] = "fp32"
    """8bit keeps both moments in a byte an element each and needs torchao, the extra `quant`."""
    parts: Mapping[Part, PartOptimConfig] = field(default_factory=dict)
    """Learning rate and weight decay of parts that differ from the rest."""

    def schedule(self, num_steps: int) -> LearningRateSchedule:
        """Returns the learning rate of a run of `num_steps` steps."""
        return LearningRateSchedule(
            peak=self.lr,
            num_steps=num_steps,
            warmup_steps=self.warmup_steps,
            decay_start=float(num_steps - self.decay_steps),
            decay=self.decay,
            final_share=self.final_lr_share,
        )

    def check_moments(self) -> None:
        """Raises ConfigError where the package that the moments need is missing."""
        if self.moments == "8bit" and find_spec("torchao") is None:
            raise ConfigError(
                "optim.moments '8bit' needs torchao, which is missing; pip install 'uniavgen[quant]', or set it to fp32"
            )


def select_trainable(model: nn.Module, patterns: Iterable[str]) -> None:
    """Lets only parameters be trained whose name matches a pattern (as in file names), or whose part a pattern names.

    Raises ConfigError on a pattern that matches none.
    """
    parameters = dict(model.named_parameters())
    trainable: set[str] = set()
    for pattern in patterns:
        matching = {name for name in parameters if fnmatchcase(name, pattern) or part_of(name) == pattern}
        if not matching:
            raise ConfigError(
                f"stage.trainable has '{pattern}', which no parameter of the model matches; give a pattern of names, "
                f"or a part: {', '.join(Part)}"
            )
        trainable |= matching
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trainable)


def build_optimizer(model: nn.Module, config: AdamWConfig) -> torch.optim.Optimizer:
    """Returns AdamW over the parameters that are trained; matrices and kernels decay, biases, norms and tables do
    not.

    With `OptimConfig`, the groups of a part have their `lr_factor` and weight decay. Raises ConfigError where a package
    that the settings need is missing.
    """
    # Fused, also because `loop.train` skips an update through `found_inf`, which other kernels do not know.
    fused: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if not isinstance(config, OptimConfig) or config.moments == "fp32":
        return torch.optim.AdamW(_parameter_groups(model, config), **fused, fused=True)
    config.check_moments()
    from uniavgen.training.adamw8bit import SkippingAdamW8bit

    return SkippingAdamW8bit(_parameter_groups(model, config), **fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the rate of every group to `lr` times the factor of its part."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def _parameter_groups(model: nn.Module, config: AdamWConfig) -> list[dict[str, Any]]:
    """Returns the trained parameters by part and by whether they decay; parts without settings share their groups."""
    parts = config.parts if isinstance(config, OptimConfig) else {}
    groups: dict[tuple[Part | None, bool], list[nn.Parameter]] = {(None, True): [], (None, False): []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = part_of(name) if parts else None
            key = (part if part in parts else None, parameter.ndim >= 2)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": _weight_decay(config, None if part is None else parts[part]) if decays else 0.0,
            "lr_factor": 1.0 if part is None else parts[part].lr_factor,
        }
        for (part, decays), parameters in groups.items()
    ]


def _weight_decay(config: AdamWConfig, part: PartOptimConfig | None) -> float:
    return config.weight_decay if part is None or part.weight_decay is None else part.weight_decay
