"""Augmentation of rendered images towards those of a video model: other framing, colours, blur and noise.

Letters: k images, c channels, h w pixels.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from uniavgen.config import Config


@dataclass(frozen=True, kw_only=True)
class Augmentation(Config):
    """How far images are shifted, zoomed, recoloured, blurred and made noisy."""

    side: int
    """Side of the result in pixels."""
    zoom: tuple[float, float]
    """Range of the side of the crop over that of the image."""
    shift: float
    """Largest distance of the crop's centre, as a share of half a side."""
    mirror: bool = True
    strength: float = 1.0
    """Strength of `recolour`; 0 leaves it out."""

    def apply(self, images: Float[Tensor, "k c h w"], rng: torch.Generator) -> Float[Tensor, "k c side side"]:
        """Returns the images, all augmented alike but for the noise; values in [-1, 1]."""
        return recolour(self.crop(images, rng), rng, self.strength)

    def crop(
        self, images: Float[Tensor, "k c h w"], rng: torch.Generator, padding: str = "reflection"
    ) -> Float[Tensor, "k c side side"]:
        """Zooms, shifts and mirrors; `padding` as `padding_mode` of `grid_sample`."""
        zoom, zero = uniform(rng, *self.zoom, 1), torch.zeros(1)
        mirror = torch.sign(uniform(rng, -1.0, 1.0, 1)) if self.mirror else torch.ones(1)
        x, y = uniform(rng, -self.shift, self.shift, 1), uniform(rng, -self.shift, self.shift, 1)
        matrix = torch.stack([zoom * mirror, zero, x, zero, zoom, y])
        affine = repeat(rearrange(matrix, "(r c) 1 -> r c", r=2), "r c -> k r c", k=len(images))
        grid = F.affine_grid(affine, [*images.shape[:2], self.side, self.side], align_corners=False)
        return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def recolour(images: Float[Tensor, "k c h w"], rng: torch.Generator, strength: float = 1.0) -> Float[Tensor, "k c h w"]:
    """Changes light, colours and sharpness of all images alike and adds noise; strength 0 changes nothing."""
    channels, height, width = images.shape[1:]

    def around(middle: float, low: float, high: float, *shape: int) -> Tensor:
        return uniform(rng, middle + strength * (low - middle), middle + strength * (high - middle), *shape)

    gain, offset = around(1.0, 0.6, 1.3, 1, 1, 1, 1), around(0.0, -0.2, 0.2, 1, 1, 1, 1)
    tint, tone = around(1.0, 0.85, 1.15, 1, channels, 1, 1), around(0.0, -0.12, 0.12, 1, channels, 1, 1)
    images = (images * gain * tint + offset + tone).clamp(-1, 1)
    blur = float(around(0.0, 0.0, 1.0, 1))
    if blur > 0.3:
        # Down and up again, to lose the details that a small video codec loses.
        size = (round(height / (1 + 1.8 * blur)), round(width / (1 + 1.8 * blur)))
        small = F.interpolate(images, size, mode="bilinear", antialias=True)
        images = F.interpolate(small, (height, width), mode="bilinear")
    noise = torch.randn(images.shape, generator=rng) * around(0.0, 0.0, 0.1, 1)
    return (images + noise).clamp(-1, 1)


def uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Draws uniform numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(*shape, generator=rng)
