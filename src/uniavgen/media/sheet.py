"""Contact sheet of a clip: frames, face mask over them, waveform and mel under them, one time axis for all."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

COLUMNS, CELL_PX = 8, 144
"""Frames shown, and their longer side."""
MARGIN_PX = 24
LABEL_PX = 78
GAP_PX = 6
WAVEFORM_PX = 96
MEL_PX = 128
_PAPER, _INK, _FAINT, _WAVE = (250, 250, 248), (38, 40, 48), (150, 153, 160), (52, 101, 164)
_MASK_TINT = np.array([255, 92, 40], np.float32)
# Dark to light with even steps of lightness: violet, blue, green, yellow.
_MEL_COLOURS = np.array(
    [[24, 15, 48], [59, 38, 105], [56, 88, 140], [33, 137, 141], [63, 183, 117], [160, 218, 57], [250, 232, 60]],
    np.float32,
)


def contact_sheet(
    frames: UInt8[np.ndarray, "frames height width 3"],
    fps: Fraction,
    waveform: Float[np.ndarray, " samples"],
    rate_hz: int,
    mel: Float[np.ndarray, "tokens bins"],
    face_mask: Float[np.ndarray, "mask_frames mask_height mask_width"] | None = None,
    *,
    title: str = "",
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Returns an image that shows a clip at one glance.

    Frames stand in steps of equal time over the waveform and the log-mel (any scale). A face mask in [0, 1] at any
    grid and rate tints a second row of the same frames where it is high.
    """
    columns = min(COLUMNS, len(frames))
    picks = [int((column + 0.5) * len(frames) / columns) for column in range(columns)]
    cell_w, cell_h = _cell(frames)
    width = columns * (cell_w + GAP_PX) - GAP_PX
    seconds = len(frames) / float(fps)
    cells = [_scaled(frames[pick], (cell_w, cell_h)) for pick in picks]

    rows = [("frames", _strip(cells))]
    if face_mask is not None:
        masks = [face_mask[_mask_index(pick, len(frames), len(face_mask))] for pick in picks]
        rows.append(("face mask", _strip([_tinted(cell, mask) for cell, mask in zip(cells, masks, strict=True)])))
    rows.append(("waveform", _waveform(waveform, width, seconds, rate_hz)))
    rows.append(("log-mel", _mel(mel, width)))

    header = 2 * MARGIN_PX + 10
    height = header + sum(len(picture) + MARGIN_PX for _, picture in rows) + MARGIN_PX
    sheet = Image.new("RGB", (2 * MARGIN_PX + LABEL_PX + width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, MARGIN_PX), _shortened(title, draw, sheet.width - 2 * MARGIN_PX), _INK, _font(17))
    left, top = MARGIN_PX + LABEL_PX, header
    for index, (label, picture) in enumerate(rows):
        draw.text((MARGIN_PX, top + 2), label, _INK, _font(13))
        sheet.paste(Image.fromarray(picture), (left, top))
        if index == 0:
            for column, pick in enumerate(picks):
                place = (left + column * (cell_w + GAP_PX), top + cell_h + 4)
                draw.text(place, f"{pick / float(fps):.2f} s", _FAINT, _font(12))
        top += len(picture) + MARGIN_PX
    _time_axis(draw, left, top - MARGIN_PX, width, seconds)
    return np.array(sheet)


def _cell(frames: UInt8[np.ndarray, "frames height width 3"]) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    scale = CELL_PX / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _strip(cells: list[np.ndarray]) -> np.ndarray:
    gap = np.full((cells[0].shape[0], GAP_PX, 3), _PAPER, np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)


def _mask_index(frame: int, num_frames: int, num_masks: int) -> int:
    """Returns the index of the mask nearest in time; the first and last belong to the first and last frame."""
    return round(frame * (num_masks - 1) / max(num_frames - 1, 1))


def _tinted(cell: np.ndarray, mask: np.ndarray) -> np.ndarray:
    size = (cell.shape[1], cell.shape[0])
    smooth = Image.fromarray(mask.astype(np.float32), mode="F").resize(size, Image.Resampling.BILINEAR)
    share = 0.65 * np.clip(np.asarray(smooth), 0.0, 1.0)[..., None]
    grey = cell.mean(axis=2, keepdims=True) * 0.6 + cell * 0.4
    return (grey * (1 - share) + _MASK_TINT * share).round().astype(np.uint8)


def _waveform(waveform: np.ndarray, width: int, seconds: float, rate_hz: int) -> np.ndarray:
    """Draws the span of the samples in each column; audio that is shorter than the clip ends early."""
    picture = np.full((WAVEFORM_PX, width, 3), 255, np.uint8)
    picture[WAVEFORM_PX // 2] = (228, 230, 234)
    edges = np.linspace(0, seconds * rate_hz, width + 1).astype(int)
    half = (WAVEFORM_PX - 2) / 2
    for column, (start, stop) in enumerate(pairwise(edges)):
        part = np.clip(waveform[start : max(stop, start + 1)], -1.0, 1.0)
        if len(part):
            top, bottom = round((1 - part.max()) * half), round((1 - part.min()) * half)
            picture[top : bottom + 1, column] = _WAVE
    return picture


def _mel(mel: np.ndarray, width: int) -> np.ndarray:
    low, high = np.quantile(mel, 0.01), np.quantile(mel, 0.995)
    level = np.clip((mel - low) / max(high - low, 1e-6), 0.0, 1.0)
    steps = np.linspace(0.0, 1.0, len(_MEL_COLOURS))
    colours = np.stack([np.interp(level, steps, channel) for channel in _MEL_COLOURS.T], axis=-1)
    upright = np.ascontiguousarray(colours.transpose(1, 0, 2)[::-1]).round().astype(np.uint8)
    return _scaled(upright, (width, MEL_PX))


def _time_axis(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, seconds: float) -> None:
    step = 0.5 if seconds <= 12 else 5.0
    for tick in np.arange(0.0, seconds + 1e-6, step):
        x = left + round(tick / seconds * (width - 1))
        draw.line((x, top, x, top + 5), _FAINT)
        draw.text((x, top + 7), f"{tick:g}" if tick else "0 s", _FAINT, _font(12), anchor="ma")


def _shortened(text: str, draw: ImageDraw.ImageDraw, width: int) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, _font(17)) <= width:
        return text
    while text and draw.textlength(text + "...", _font(17)) > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
