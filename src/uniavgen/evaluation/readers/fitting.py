"""How every network of ours is trained: one loop, fresh weights, and pictures as a generator might have drawn them.

Letters: k pictures, c channels, h w pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.evaluation.readers.blocks import Block, Residual, Ripple


@dataclass(frozen=True, kw_only=True)
class Fitting(Config):
    """AdamW; the rate goes up over the first 5 % of the steps, then follows a cosine to 0."""

    steps: int
    learning_rate: float = 2e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"a network needs 1 or more training steps, got {self.steps}")


def fit(
    networks: Sequence[nn.Module],
    loss: Callable[[], Float[Tensor, ""]],
    config: Fitting,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Lower `loss`, which draws a batch of its own at every call. The networks are ready to use afterwards."""
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
    """Fresh weights that follow the generator."""
    for module in network.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, (Block, Residual, Ripple)):
            # A fresh block changes nothing.
            nn.init.zeros_(module.last.weight)


def _rate(step: int, steps: int) -> float:
    warm_up = max(steps // 20, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1))))


@dataclass(frozen=True, kw_only=True)
class Distortion(Config):
    """How far pictures are moved, zoomed, recoloured, softened and stained."""

    side: int
    """Of the result in pixels."""
    zoom: tuple[float, float]
    """Side of what is cut out over that of what is given."""
    shift: float
    """Of its middle, as a share of half a side."""
    mirror: bool = True
    strength: float = 1.0
    """Of the change of light, colours and sharpness, as `recoloured` has it."""

    def apply(self, pictures: Float[Tensor, "k c h w"], rng: torch.Generator) -> Float[Tensor, "k c side side"]:
        """The same for all pictures, but for the noise; values in [-1, 1]."""
        return recoloured(self.moved(pictures, rng), rng, self.strength)

    def moved(
        self, pictures: Float[Tensor, "k c h w"], rng: torch.Generator, beyond: str = "reflection"
    ) -> Float[Tensor, "k c side side"]:
        """Zoomed, shifted and mirrored; `beyond` as the padding of `grid_sample`."""
        zoom, zero = between(rng, *self.zoom, 1), torch.zeros(1)
        mirror = torch.sign(between(rng, -1.0, 1.0, 1)) if self.mirror else torch.ones(1)
        across, down = between(rng, -self.shift, self.shift, 1), between(rng, -self.shift, self.shift, 1)
        matrix = torch.stack([zoom * mirror, zero, across, zero, zoom, down])
        affine = repeat(rearrange(matrix, "(r c) 1 -> r c", r=2), "r c -> k r c", k=len(pictures))
        grid = F.affine_grid(affine, [*pictures.shape[:2], self.side, self.side], align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode=beyond, align_corners=False)


def recoloured(
    pictures: Float[Tensor, "k c h w"], rng: torch.Generator, strength: float = 1.0
) -> Float[Tensor, "k c h w"]:
    """Other light, colours and sharpness, the same for all pictures, and noise; at strength 0 nothing changes."""
    channels, height, width = pictures.shape[1:]

    def about(middle: float, low: float, high: float, *shape: int) -> Tensor:
        return between(rng, middle + strength * (low - middle), middle + strength * (high - middle), *shape)

    gain, offset = about(1.0, 0.6, 1.3, 1, 1, 1, 1), about(0.0, -0.2, 0.2, 1, 1, 1, 1)
    tint, tone = about(1.0, 0.85, 1.15, 1, channels, 1, 1), about(0.0, -0.12, 0.12, 1, channels, 1, 1)
    pictures = (pictures * gain * tint + offset + tone).clamp(-1, 1)
    softness = float(about(0.0, 0.0, 1.0, 1))
    if softness > 0.3:
        # Down and up again: what a small video codec takes away.
        size = (round(height / (1 + 1.8 * softness)), round(width / (1 + 1.8 * softness)))
        small = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        pictures = F.interpolate(small, (height, width), mode="bilinear")
    noise = torch.randn(pictures.shape, generator=rng) * about(0.0, 0.0, 0.1, 1)
    return (pictures + noise).clamp(-1, 1)


def between(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform numbers."""
    return low + (high - low) * torch.rand(*shape, generator=rng)
