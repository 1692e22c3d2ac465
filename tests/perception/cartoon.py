"""A drawn talking head without any renderer: an oval with eyes and a mouth that opens as loud as its voice is."""

import numpy as np
from PIL import Image, ImageDraw

from uniavgen.perception.sound import SPEECH_RATE_HZ

FPS, SIDE, SCALE = 16, 128, 4
SKIN, HAIR, LIPS, DARK, WALL = (225, 175, 145), (60, 40, 30), (170, 85, 85), (45, 20, 20), (120, 140, 150)


def openings(seconds: float, rate: float, seed: int) -> np.ndarray:
    """How far the mouth is open, 0 to 1, at `rate` moments a second: syllables of uneven length with pauses."""
    rng = np.random.default_rng(seed)
    time = (np.arange(round(seconds * rate)) + 0.5) / rate
    curve, start = np.zeros_like(time), 0.2
    while start < seconds - 0.3:
        length = rng.uniform(0.12, 0.3)
        bump = np.sin(np.pi * np.clip((time - start) / length, 0, 1)) ** 2
        curve = np.maximum(curve, rng.uniform(0.5, 1.0) * bump)
        start += length + (rng.uniform(0.15, 0.4) if rng.random() < 0.3 else rng.uniform(0.0, 0.05))
    return curve


def talking_head(seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    """Frames F 128 128 3 whose mouth follows `openings`."""
    return np.stack([_frame(opening) for opening in openings(seconds, FPS, seed)])


def voice(seconds: float = 4.0, seed: int = 0, late_s: float = 0.0) -> np.ndarray:
    """16 kHz sound as loud as `openings`: a vowel of 24 harmonics, `late_s` later than the mouth."""
    time = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    loud = openings(seconds, SPEECH_RATE_HZ, seed)
    late = round(late_s * SPEECH_RATE_HZ)
    loud = np.roll(loud, late)
    if late > 0:
        loud[:late] = 0
    elif late < 0:
        loud[late:] = 0
    harmonics = np.arange(1, 25)[:, None]
    pitch = 130 * harmonics
    formants = sum(
        np.exp(-(((pitch - centre) / width) ** 2)) for centre, width in ((650, 200), (1300, 300), (2500, 400))
    )
    wave = ((0.05 + formants) * np.sin(2 * np.pi * pitch * time)).sum(axis=0)
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.5 * loud * wave / np.abs(wave).max() + 0.001 * noise).astype(np.float32)


def _frame(opening: float) -> np.ndarray:
    big = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), WALL)
    draw = ImageDraw.Draw(big)

    def oval(x: float, y: float, wide: float, high: float, colour: tuple[int, int, int]) -> None:
        box = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
        draw.ellipse([value * SCALE for value in box], fill=colour)

    oval(64, 130, 110, 60, (60, 80, 120))
    oval(64, 100, 34, 40, (200, 150, 120))
    oval(64, 56, 72, 86, HAIR)
    oval(64, 62, 60, 80, SKIN)
    for side in (-1, 1):
        oval(64 + 14 * side, 54, 11, 6, (245, 245, 245))
        oval(64 + 14 * side, 54, 5, 6, DARK)
        oval(64 + 14 * side, 46, 14, 3, HAIR)
    oval(64, 68, 8, 5, (200, 150, 122))
    oval(64, 83, 22, 6 + 11 * opening, LIPS)
    oval(64, 83, 18, 0.5 + 10 * opening, DARK)
    return np.asarray(big.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
