"""AdamW with warm-up, and which parameters a stage trains."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import nn

from uniavgen.errors import ConfigError
from uniavgen.training.config import OptimConfig


def freeze_others(model: nn.Module, patterns: Iterable[str]) -> None:
    """Let only parameters whose name matches a pattern be trained; ConfigError on a pattern that matches none."""
    parameters = dict(model.named_parameters())
    chosen: set[str] = set()
    for pattern in patterns:
        matching = {name for name in parameters if fnmatchcase(name, pattern)}
        if not matching:
            raise ConfigError(f"stage.trainable has '{pattern}', which no parameter of the model matches")
        chosen |= matching
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Rate of a step (from 0): linear warm-up, constant, and where asked a linear fall at the end."""
    warm = min((step + 1) / max(config.warmup_steps, 1), 1.0)
    fall = min((num_steps - step) / config.decay_steps, 1.0) if config.decay_steps else 1.0
    return config.lr * warm * fall
