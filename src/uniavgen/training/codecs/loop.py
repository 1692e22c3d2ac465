"""The small loop that trains a codec: a step is a pure function of the weights and its number.

Batches and noise are drawn from (seed, step), so a run that was interrupted and resumed equals one that was not.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from uniavgen.artifacts import atomic_file, first_line
from uniavgen.config import Config
from uniavgen.errors import CheckpointError, ConfigError

STATE_FILE: Final = "state.pt"


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Config):
    """Length and optimiser of a codec's training."""

    steps: int
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 50
    decay_share: float = 1.0
    """Last share of the steps over which the rate falls along a half cosine; 1 is a plain cosine schedule."""
    final_lr_share: float = 0.01
    """The last step's rate, relative to `lr`."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1:
            raise ConfigError(f"steps and save_every must be at least 1, got {self.steps} and {self.save_every}")
        if not 0 < self.decay_share <= 1:
            raise ConfigError(f"decay_share is above 0 and at most 1, got {self.decay_share}")

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        start = self.steps * (1 - self.decay_share)
        done = min(max((step - start) / max(self.steps - start, 1), 0.0), 1.0)
        cosine = (1 + math.cos(math.pi * done)) / 2
        return self.lr * warm * (self.final_lr_share + (1 - self.final_lr_share) * cosine)


class Objective(ABC):
    """What a codec is trained on: its model, and the losses of one step."""

    model: nn.Module

    @abstractmethod
    def losses(self, step: int) -> dict[str, Tensor]:
        """Named scalar losses of a step's own batch; `total` is the one that is minimised."""

    def parts(self) -> Sequence[nn.Module]:
        """Parts of the model whose gradients are clipped apart, because each has a loss of its own."""
        return (self.model,)


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What a caller may show of a step."""

    step: int
    """Steps done, from 1."""
    steps: int
    lr: float
    losses: dict[str, float]
    seconds: float


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def step_rng(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step: which samples, which crops."""
    return np.random.default_rng((seed, step))


def train(objective: Objective, config: LoopConfig, folder: Path) -> Iterator[StepRecord]:
    """Train to `config.steps`, yielding a record a step; continues from `folder/state.pt` where there is one."""
    optimizer = _optimizer(objective.model, config)
    first = _restore(objective.model, optimizer, folder / STATE_FILE)
    objective.model.train()
    for step in range(first, config.steps):
        began = time.perf_counter()
        rate = config.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses = objective.losses(step)
        losses["total"].backward()
        norms = [nn.utils.clip_grad_norm_(part.parameters(), config.max_grad_norm) for part in objective.parts()]
        norm = torch.stack(norms).max()
        if norm.isfinite():
            optimizer.step()
        done = step + 1
        if done % config.save_every == 0 or done == config.steps:
            _save(objective.model, optimizer, done, folder / STATE_FILE)
        shown = {name: float(value.detach()) for name, value in losses.items()} | {"grad_norm": float(norm)}
        seconds = time.perf_counter() - began
        yield StepRecord(step=done, steps=config.steps, lr=rate, losses=shown, seconds=seconds)
    objective.model.eval()


def _optimizer(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def _save(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    with atomic_file(path) as partial:
        torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a state of this run ({first_line(error)}); remove it or use another --out"
        ) from error
    return state["step"]
