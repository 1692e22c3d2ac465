"""Cuts frames into overlapping tiles and blends what was computed of them, where a whole frame needs too much memory.

Letters: h w cells of a frame (pixels or latent cells), b batch, c channels, F frames.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

OVERLAP = 4
"""Neighbouring tiles overlap by 1 / OVERLAP of a side, as in diffusers. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Locates one tile in a frame."""

    rows: slice
    columns: slice

    def scaled(self, factor: int) -> "Tile":
        """Returns the same area in cells that are `factor` times finer."""
        rows, columns = (slice(side.start * factor, side.stop * factor) for side in (self.rows, self.columns))
        return Tile(rows=rows, columns=columns)

    def cut(self, values: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b tile_h tile_w"]:
        """Returns the values inside the tile."""
        return values[..., self.rows, self.columns]


def tiles_covering(height: int, width: int, side: int | None) -> list[Tile]:
    """Returns tiles of one size, at most `side` cells each way, that cover a frame; a single one if `side` is None."""
    return [
        Tile(rows=rows, columns=columns)
        for rows in _tile_spans(height, side or height)
        for columns in _tile_spans(width, side or width)
    ]


class TileBlender:
    """Blends the values of tiles, sum w x / sum w, with weights w that fall linearly where tiles overlap.

    Sums are float32 and lie on the CPU, since frames that need tiles are too large for the device.
    """

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        """Starts with sums of zero; `shape` is that of all frames, b c F h w."""
        self._sum = torch.zeros(shape)
        self._weight = torch.zeros(shape[-2:])

    def add(self, tile: Tile, frames: slice, values: Float[Tensor, "b c F tile_h tile_w"]) -> None:
        """Adds the values of a tile for some frames."""
        weight = self._fade(tile)
        self._sum[:, :, frames, tile.rows, tile.columns] += values.float().cpu() * weight
        # The weights are the same for all frames, so they are summed with the first of them only.
        if frames.start == 0:
            self._weight[tile.rows, tile.columns] += weight

    def frames(self, frames: slice) -> Float[Tensor, "b c F h w"]:
        """Returns the blended values of some frames, after all tiles were added."""
        return self._sum[:, :, frames] / self._weight

    def _fade(self, tile: Tile) -> Float[Tensor, "tile_h tile_w"]:
        height, width = self._weight.shape
        return rearrange(_fade_ramp(tile.rows, height), "h -> h 1") * _fade_ramp(tile.columns, width)


def _tile_spans(length: int, side: int) -> list[slice]:
    """Returns evenly spaced spans of `side` that cover `length` and overlap by at least 1 / OVERLAP."""
    if length <= side:
        return [slice(0, length)]
    count = math.ceil((length - side) / (side - side // OVERLAP)) + 1
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def _fade_ramp(span: slice, length: int) -> Float[Tensor, " s"]:
    """Returns weights that are 1 inside, fall towards neighbouring tiles, and stay 1 at the border of the frame."""
    size = span.stop - span.start
    centres, fade = torch.arange(size) + 0.5, max(size // OVERLAP, 1)
    ramp = torch.ones(size)
    if span.start > 0:
        ramp = torch.minimum(ramp, centres / fade)
    return torch.minimum(ramp, (size - centres) / fade) if span.stop < length else ramp
