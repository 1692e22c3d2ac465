"""Small clips with known content."""

from fractions import Fraction

import numpy as np

FPS = Fraction(16)
RATE_HZ = 24_000


def flash_and_click(num_frames: int = 81, at_s: float = 2.0, fps: Fraction = FPS) -> tuple[np.ndarray, np.ndarray]:
    """Frames with one white among dark ones, and sound with one click, at the same time."""
    frames = np.full((num_frames, 32, 48, 3), 20, np.uint8)
    frames[round(at_s * fps)] = 255
    waveform = np.zeros(round(num_frames / fps * RATE_HZ), np.float32)
    start = round(at_s * RATE_HZ)
    waveform[start : start + 24] = 0.9
    return frames, waveform


def moving_bar(num_frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames that all differ: a bright column that moves."""
    frames = np.full((num_frames, height, width, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % width] = (220, 200, 180)
    return frames


def tone(seconds: float, rate_hz: int = RATE_HZ, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    """A sine that begins at 0."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)
