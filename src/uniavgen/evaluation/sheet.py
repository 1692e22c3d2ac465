"""A picture of an evaluation: for each clip a row of true frames, the made ones below, and both mouth curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from uniavgen.evaluation.metric import MadeClip, TruthClip

TILE_PX = 96
COLUMNS = 9
CURVE_PX = 360
INK, TRUTH_INK, MADE_INK, PAPER = (60, 60, 60), (40, 110, 190), (210, 90, 30), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip of the sheet."""

    truth: TruthClip
    made: MadeClip
    opening: Float[np.ndarray, " F"]
    """Mouth opening read from the made clip."""
    caption: str


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """Truth above, made below, frames evenly spaced in time; blue the true mouth opening, orange the made one."""
    height = 2 * TILE_PX + 22
    sheet = Image.new("RGB", (COLUMNS * TILE_PX + CURVE_PX, max(len(rows), 1) * height), PAPER)
    for number, row in enumerate(rows):
        top = number * height
        picks = np.linspace(0, len(row.truth.frames) - 1, COLUMNS).round().astype(int)
        for column, frame in enumerate(picks):
            for line, frames in enumerate((row.truth.frames, row.made.frames)):
                tile = _tile(frames[min(frame, len(frames) - 1)])
                sheet.paste(tile, (column * TILE_PX, top + line * TILE_PX))
        sheet.paste(_curves(row, 2 * TILE_PX), (COLUMNS * TILE_PX, top))
        ImageDraw.Draw(sheet).text((4, top + 2 * TILE_PX + 4), row.caption, fill=INK)
    return sheet


def _tile(frame: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    picture = Image.fromarray(frame)
    picture.thumbnail((TILE_PX, TILE_PX))
    return picture


def _curves(row: Row, height: int) -> Image.Image:
    plot = Image.new("RGB", (CURVE_PX, height), PAPER)
    draw = ImageDraw.Draw(plot)
    margin = 10
    for curve, ink in ((row.truth.mouth_opening, TRUTH_INK), (row.opening, MADE_INK)):
        # Each to its own range: what counts is when the mouth opens.
        low, high = float(curve.min()), float(curve.max())
        level = (curve - low) / max(high - low, 1e-6)
        x = np.linspace(margin, CURVE_PX - margin, len(curve))
        y = height - margin - level * (height - 2 * margin)
        draw.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], fill=ink, width=2)
    return plot
