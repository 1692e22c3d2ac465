"""A picture in overlapping squares: what is too large to be worked on whole is worked on piece by piece and blended.

Letters: h w cells of the picture, b batch, c channels, F frames.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

OVERLAP = 4
"""Neighbouring tiles share one part in so many of a side; diffusers' default. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Cells of one tile."""

    rows: slice
    columns: slice

    def scaled(self, factor: int) -> "Tile":
        """Returns the same area in cells that are `factor` times finer."""
        rows, columns = (slice(side.start * factor, side.stop * factor) for side in (self.rows, self.columns))
        return Tile(rows=rows, columns=columns)

    def cut(self, values: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b tile_h tile_w"]:
        return values[..., self.rows, self.columns]


def tiles_covering(height: int, width: int, side: int | None) -> list[Tile]:
    """Tiles of one size, no more than `side` cells each way, that cover a picture; one tile where `side` is None."""
    return [
        Tile(rows=rows, columns=columns)
        for rows in _tile_spans(height, side or height)
        for columns in _tile_spans(width, side or width)
    ]


class TileBlender:
    """Values of overlapping tiles, faded into each other where they overlap; kept in float32 on the CPU."""

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        """Starts an empty canvas of `shape`, that of all frames: b c F h w."""
        self._sum = torch.zeros(shape)
        self._weight = torch.zeros(shape[-2:])

    def add(self, tile: Tile, frames: slice, values: Float[Tensor, "b c F tile_h tile_w"]) -> None:
        """Adds the values of a tile for some frames."""
        weight = self._fade(tile)
        self._sum[:, :, frames, tile.rows, tile.columns] += values.float().cpu() * weight
        if frames.start == 0:
            self._weight[tile.rows, tile.columns] += weight

    def frames(self, frames: slice) -> Float[Tensor, "b c F h w"]:
        """Returns some frames as a whole, after all tiles were added."""
        return self._sum[:, :, frames] / self._weight

    def _fade(self, tile: Tile) -> Float[Tensor, "tile_h tile_w"]:
        height, width = self._weight.shape
        return rearrange(_fade_ramp(tile.rows, height), "h -> h 1") * _fade_ramp(tile.columns, width)


def _tile_spans(length: int, side: int) -> list[slice]:
    if length <= side:
        return [slice(0, length)]
    count = math.ceil((length - side) / (side - side // OVERLAP)) + 1
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def _fade_ramp(span: slice, length: int) -> Float[Tensor, " s"]:
    """Returns weights of 1 in the middle that fall towards neighbours; at the border of the frame they stay 1."""
    size = span.stop - span.start
    places, fade = torch.arange(size) + 0.5, max(size // OVERLAP, 1)
    ramp = torch.ones(size)
    if span.start > 0:
        ramp = torch.minimum(ramp, places / fade)
    return torch.minimum(ramp, (size - places) / fade) if span.stop < length else ramp
