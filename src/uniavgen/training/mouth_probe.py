"""A linear lip reader: mouth opening as latents tell it, so that a loss can look where a mouth moves. [ours]

How the latents around a mouth change when it opens differs from face to face and with its place on the latent grid: one
pattern for all explains 0.4 % of what moves there, a clip's own pattern a quarter (docs/log.md). Openings, though, are
read well by one linear filter, and with them the pattern of any clip is found in the clip itself. The filter is fitted
in closed form on a run's own features.

Letters: b batch, c latent channels, f latent frames, h w latent grid, n video tokens a frame, p cells around a mouth.
"""

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
RIDGE = 0.1
"""Of a standardised feature's variance."""


@dataclass(frozen=True)
class LinearMouthProbe:
    """Mouth opening of each latent frame as latents tell it, in standard deviations, up to a constant of the clip."""

    filter: Float[Tensor, " c_p"]

    @classmethod
    def fit(cls, clips: Iterable[Features], base: Timebase) -> "LinearMouthProbe":
        """The ridge regression over clips that have latents, a face mask and the mouth's opening; DataError if there is
        none."""
        seen, opened = [], []
        for clip in clips:
            if clip.latents is None or clip.face_mask is None or clip.mouth_opening is None:
                continue
            # The first pixel frame has a latent frame of its own.
            latents, mask = clip.latents[None, :, 1:].float(), clip.face_mask[None, 1:].float()
            opening = clip.mouth_opening[1:].float().unflatten(0, (-1, base.temporal_stride)).mean(dim=1)
            around, there = mouth_crops(latents, mask)[0], mask[0].sum(dim=1) > 0
            if int(there.sum()) > 1:
                seen.append(around[there] - around[there].mean(dim=0))
                opened.append(opening[there] - opening[there].mean())
        if not seen:
            raise DataError(
                "the lip-motion loss needs clips with video, face masks and mouth openings, as `uniavgen synth` makes "
                "them, and the data has none; set it to 0"
            )
        x, y = torch.cat(seen), torch.cat(opened)
        y = y / y.square().mean().sqrt().clamp(min=1e-6)
        scale = x.square().mean(dim=0).sqrt().clamp(min=1e-6)
        covariance = (x / scale).T @ (x / scale) / len(x) + RIDGE * torch.eye(x.shape[1])
        return cls(torch.linalg.solve(covariance, (x / scale).T @ y / len(x)) / scale)

    def read(self, around: Float[Tensor, "b f c_p"]) -> Float[Tensor, "b f"]:
        """Openings out of what `mouths` gives; of no meaning in frames without a face."""
        return around @ self.filter.to(around)


def mouth_crops(latents: Float[Tensor, "b c f h w"], mask: Float[Tensor, "b f n"]) -> Float[Tensor, "b f c_p"]:
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
