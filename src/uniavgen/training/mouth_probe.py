"""A linear probe that estimates the mouth opening from latents, for the lip-motion loss. [ours]

How the latents around a mouth change when it opens differs from face to face and with its position on the latent grid:
one direction for all faces explains 0.4 % of the variance there, a clip's own direction a quarter (docs/log.md). But
one linear filter estimates the openings of all faces well, and the estimates yield each clip's own direction. The
filter is fitted in closed form, on the features that the run trains on.

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
"""Cells along a side of the square crop around a mouth."""
CELL_SIZE, BELOW = 0.22, 0.45
"""Side of a cell, and distance of the mouth below the centre of the face mask; both in radii of a circle that has the
area of the mask."""
RIDGE = 0.1
"""Ridge penalty, relative to the variance of a standardised feature."""


@dataclass(frozen=True)
class LinearMouthProbe:
    """Estimates the mouth opening of each latent frame, in standard deviations, up to a constant of the clip."""

    filter: Float[Tensor, " c_p"]

    @classmethod
    def fit(cls, clips: Iterable[Features], base: Timebase) -> "LinearMouthProbe":
        """Returns the probe w = (X'X / n + RIDGE I)^-1 X'y / n over all frames with a face.

        X are the crops around mouths (`mouth_crops`), centred in each clip and standardised; y are the openings,
        centred likewise. Raises DataError where no clip has latents, a face mask and mouth openings.
        """
        crops, openings = [], []
        for clip in clips:
            if clip.latents is None or clip.face_mask is None or clip.mouth_opening is None:
                continue
            # The first pixel frame has a latent frame of its own.
            latents, mask = clip.latents[None, :, 1:].float(), clip.face_mask[None, 1:].float()
            opening = clip.mouth_opening[1:].float().unflatten(0, (-1, base.temporal_stride)).mean(dim=1)
            crop, has_face = mouth_crops(latents, mask)[0], mask[0].sum(dim=1) > 0
            if int(has_face.sum()) > 1:
                crops.append(crop[has_face] - crop[has_face].mean(dim=0))
                openings.append(opening[has_face] - opening[has_face].mean())
        if not crops:
            raise DataError(
                "the lip-motion loss needs clips with video, face masks and mouth openings, as `uniavgen synth` makes "
                "them, and the data has none; set it to 0"
            )
        x, y = torch.cat(crops), torch.cat(openings)
        y = y / y.square().mean().sqrt().clamp(min=1e-6)
        scale = x.square().mean(dim=0).sqrt().clamp(min=1e-6)
        covariance = (x / scale).T @ (x / scale) / len(x) + RIDGE * torch.eye(x.shape[1])
        return cls(torch.linalg.solve(covariance, (x / scale).T @ y / len(x)) / scale)

    def read(self, crops: Float[Tensor, "b f c_p"]) -> Float[Tensor, "b f"]:
        """Returns the openings in the crops of `mouth_crops`; without meaning in frames without a face."""
        return crops @ self.filter.to(crops)


def mouth_crops(latents: Float[Tensor, "b c f h w"], mask: Float[Tensor, "b f n"]) -> Float[Tensor, "b f c_p"]:
    """Returns the latents in a square of cells around the mouth of each frame.

    The mouth is assumed BELOW radii under the centre of the face mask; latents between grid points are interpolated.
    """
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
    grid = torch.stack(
        [
            (2 * columns * patch / width - 1)[:, None].expand(-1, CELLS, -1),
            (2 * rows * patch / height - 1)[:, :, None].expand(-1, -1, CELLS),
        ],
        dim=-1,
    )
    flat = rearrange(latents, "b c f h w -> (b f) c h w")
    return rearrange(F.grid_sample(flat, grid.to(flat), align_corners=False), "(b f) c y x -> b f (c y x)", f=frames)
