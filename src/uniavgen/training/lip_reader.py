"""A linear lip reader: the direction in latent space along which mouths open, so that a loss can look there. [ours]

How a mouth moves is below a hundredth of what moves in the latents of a talking head, so a small model that sees few
clips hears nothing for a long time. Around the mouth, though, loudness is a linear function of the latents: held-out
clips of nano's world read so correlate by 0.79 with the true opening (docs/log.md). The reader is that function. It is
fitted in closed form on a run's own features and needs no truth but the face mask: latents around the mouth, minus
their mean over the clip, to the sound's level in each pixel frame.

Its direction is not quite how latents change when a mouth opens: a model can please the reader and keep its mouth shut.

Letters: b batch, c latent channels, f latent frames, h w latent grid, n video tokens a frame, l audio tokens,
o pixel frames of a latent frame, p cells around a mouth.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.data.features import Features
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase

CELLS = 6
"""Cells a side of the square around a mouth."""
CELL_SIZE, BELOW = 0.22, 0.45
"""Their size, and where the mouth lies below the centre of the face mask, in radii of the circle of its area."""
RIDGE = 0.5
"""Of a standardised feature's variance."""


@dataclass(frozen=True)
class LipReader:
    """Loudness of each pixel frame as the picture tells it, in standard deviations, up to a constant of the clip."""

    weight: Float[Tensor, "c_p o"]

    @classmethod
    def fit(cls, clips: Iterable[Features], base: Timebase) -> "LipReader":
        """The ridge regression over clips that have latents and a face mask; DataError if there is none."""
        seen, heard = [], []
        for clip in clips:
            if clip.latents is None or clip.face_mask is None:
                continue
            latents, mask = clip.latents[None, :, 1:].float(), clip.face_mask[None, 1:].float()
            loudness = _levels(clip.mel.float(), latents.shape[2], base)
            around, there = mouths(latents, mask)[0], mask[0].sum(dim=1) > 0
            if int(there.sum()) > 1:
                seen.append(around[there] - around[there].mean(dim=0))
                heard.append(loudness[there] - loudness[there].mean(dim=0))
        if not seen:
            raise DataError("the lip guide needs clips with video and face masks, and the data has none; set it to 0")
        x, y = torch.cat(seen), torch.cat(heard)
        scale = x.square().mean(dim=0).sqrt().clamp(min=1e-6)
        x = x / scale
        covariance = x.T @ x / len(x) + RIDGE * torch.eye(x.shape[1])
        weight = torch.linalg.solve(covariance, x.T @ y / len(x))
        return cls((weight / (x @ weight).square().mean().sqrt().clamp(min=1e-6)) / scale[:, None])

    def read(self, latents: Float[Tensor, "b c f h w"], mask: Float[Tensor, "b f n"]) -> Float[Tensor, "b f o"]:
        """What the mouths of latents say; linear in them, and of no meaning in frames without a face."""
        return mouths(latents, mask) @ self.weight.to(latents.device)


def mouths(latents: Float[Tensor, "b c f h w"], mask: Float[Tensor, "b f n"]) -> Float[Tensor, "b f c_p"]:
    """The square of cells around each frame's mouth, which is taken to lie at one place of the face mask."""
    frames, height, width = latents.shape[2:]
    patch = math.isqrt(height * width // mask.shape[2])
    face = rearrange(mask.nan_to_num(0.0), "b f (y x) -> (b f) y x", y=height // patch)
    row, column = (torch.arange(size, device=face.device) for size in face.shape[1:])
    area = face.sum(dim=(1, 2)).clamp(min=1e-6)
    y, x = (face * row[:, None]).sum(dim=(1, 2)) / area, (face * column).sum(dim=(1, 2)) / area
    radius = (area / math.pi).sqrt()
    steps = (torch.arange(CELLS, device=face.device) - (CELLS - 1) / 2) * CELL_SIZE
    # The grid is sampled in -1 to 1 from edge to edge, a token being one unit of `y` and `x`.
    rows = (y + BELOW * radius + 0.5)[:, None] + radius[:, None] * steps
    columns = (x + 0.5)[:, None] + radius[:, None] * steps
    places = torch.stack(
        [
            (2 * columns * patch / width - 1)[:, None].expand(-1, CELLS, -1),
            (2 * rows * patch / height - 1)[:, :, None].expand(-1, -1, CELLS),
        ],
        dim=-1,
    )
    flat = rearrange(latents, "b c f h w -> (b f) c h w")
    return rearrange(F.grid_sample(flat, places.to(flat), align_corners=False), "(b f) c y x -> b f (c y x)", f=frames)


def _levels(mel: Float[Tensor, "l mel"], latent_frames: int, base: Timebase) -> Float[Tensor, "f o"]:
    """Mean normalised log-mel of each pixel frame behind the first, which has a latent frame of its own."""
    level, stride = mel.mean(dim=1), base.temporal_stride
    tokens = base.tokens_per_second / base.fps
    edges = [int(tokens * frame) for frame in range(1, 2 + latent_frames * stride)]
    levels = [level[min(a, len(level) - 1) : max(b, a + 1)].mean() for a, b in itertools.pairwise(edges)]
    return torch.stack(levels).unflatten(0, (latent_frames, stride))
