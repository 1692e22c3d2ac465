"""An invisible mark in generated pictures, and its detector. [ours]

A tile of TILE x TILE px, the same in every clip, is repeated over the picture and added to all three colours with an
amplitude of about one grey level, more where the picture is busy. The tile has random phases in a ring of middle
frequencies, which video codecs keep; frequencies of their 8x8 blocks and of straight edges are left out.

The detector averages frames, evens out contrast, sums up all tiles and compares phases: with F the spectrum of the
summed tile, P the pattern's, N the number of frequencies and x a shift,

    score = max_x  sum_k cos(arg F_k - arg P_k - k x) / sqrt(N / 2)        over one half of the plane,

which is normal with deviation 1 where there is no mark. The shift makes cutting harmless; scaling is searched, and
mirroring tried. There is no message in the mark: it says that a picture was made by this project.

Letters: F frames, h w pixels.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from jaxtyping import Bool, Complex64, Float32, UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

TILE: Final = 64
RING: Final = (4.0, 16.0)
"""Periods in a tile."""
SEED: Final = 20261129
"""Of the pattern; changing it makes old marks unreadable."""
AMPLITUDE: Final = 0.7
"""Grey levels, root mean square, in flat parts of a large picture."""
BUSY: Final = 0.045
"""Share of the deviation of a BLOCK x BLOCK block that is added to the amplitude."""
MAX_AMPLITUDE: Final = 2.0
SMALL_PICTURE_GAIN: Final = 1.6
"""Factor on the amplitude for pictures of up to FEW_TILES; 1 from MANY_TILES on, where more tiles are averaged."""
FEW_TILES, MANY_TILES = 4, 64
BLOCK: Final = 8
SCORE_THRESHOLD: Final = 7.0
"""A score above it is a mark; all pictures without one stay below 5.5. [measured, docs/provenance.md]"""
MIN_SIDE_PX: Final = TILE
_SCALES: Final = np.exp(np.arange(np.log(0.4), np.log(2.5), 0.005))
_SEARCH_PX: Final = 256
"""Side of the middle part in which scales are searched; larger parts would need finer steps."""
_SMOOTHING_PX: Final = 4.0
_LUMA: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class PictureMatch:
    """How well a picture fits the mark."""

    score: float
    scale: float = 1.0
    """Size of the picture relative to the marked one."""

    @property
    def is_found(self) -> bool:
        """Returns whether the picture carries the mark."""
        return self.score > SCORE_THRESHOLD


@cache
def _spectrum() -> tuple[Bool[np.ndarray, "t t"], Complex64[np.ndarray, "t t"]]:
    """Returns which frequencies the pattern has, and its phases there."""
    waves = np.fft.fftfreq(TILE) * TILE
    down, across = np.meshgrid(waves, waves, indexing="ij")
    radius = np.hypot(down, across)
    is_block = (down % BLOCK == 0) & (across % BLOCK == 0)
    is_used = (radius >= RING[0]) & (radius <= RING[1]) & (down != 0) & (across != 0) & ~is_block
    noise = np.fft.fft2(np.random.default_rng(SEED).standard_normal((TILE, TILE)))
    return is_used, np.where(is_used, noise / np.abs(noise), 0).astype(np.complex64)


@cache
def _tile() -> Float32[np.ndarray, "t t"]:
    """Returns the pattern, with deviation 1 and weaker high frequencies, as pictures have."""
    waves = np.fft.fftfreq(TILE) * TILE
    radius = np.hypot(*np.meshgrid(waves, waves, indexing="ij"))
    pattern = np.fft.ifft2(_spectrum()[1] / np.sqrt(np.maximum(radius, 1))).real
    return (pattern / pattern.std()).astype(np.float32)


def mark_frames(frames: UInt8[np.ndarray, "F h w 3"], num_given: int = 0) -> UInt8[np.ndarray, "F h w 3"]:
    """Returns the frames with the mark in all behind the first `num_given`, which stay as they are."""
    height, width = frames.shape[1:3]
    rows, columns = -(-height // TILE), -(-width // TILE)
    few, many = np.log(FEW_TILES), np.log(MANY_TILES)
    share = np.clip((many - np.log(height * width / TILE**2)) / (many - few), 0, 1)
    pattern = np.tile(_tile(), (rows, columns))[:height, :width] * (1 + share * (SMALL_PICTURE_GAIN - 1))
    marked = frames.copy()
    for frame in marked[num_given:]:
        change = np.rint(_amplitude(frame) * pattern).astype(np.int16)
        frame[:] = np.clip(frame + change[..., None], 0, 255)
    return marked


def _amplitude(frame: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Returns the amplitude at each pixel, from the deviations of blocks."""
    height, width = frame.shape[:2]
    rows, columns = max(height // BLOCK, 1), max(width // BLOCK, 1)
    luma = frame[: rows * BLOCK, : columns * BLOCK] @ _LUMA
    blocks = luma.reshape(rows, luma.shape[0] // rows, columns, luma.shape[1] // columns)
    amplitude = np.minimum(AMPLITUDE + BUSY * blocks.std(axis=(1, 3)), MAX_AMPLITUDE)
    return np.asarray(Image.fromarray(amplitude.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


def mean_luma(frames: UInt8[np.ndarray, "F h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Returns the mean of frames, as grey levels."""
    return (frames.mean(axis=0, dtype=np.float32) @ _LUMA).astype(np.float32)


def match_picture(picture: Float32[np.ndarray, "h w"], scale: float | None = 1.0) -> PictureMatch:
    """Returns how well a mean of frames fits the mark, also mirrored, at a scale; searches for it where None.

    Pictures below MIN_SIDE_PX on a side have the score 0.
    """
    if min(picture.shape) < MIN_SIDE_PX * (0.4 if scale is None else min(scale, 1.0)):
        return PictureMatch(0.0)
    even = _evened(picture)
    mirrored = np.ascontiguousarray(even[:, ::-1])
    if scale is None:
        matches = [_best_scale(even), _best_scale(mirrored)]
    else:
        matches = [PictureMatch(_score(each, scale, scale), scale) for each in (even, mirrored)]
    return max(matches, key=lambda match: match.score)


def _evened(picture: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Returns the details of a picture with the same contrast everywhere."""
    details = picture - gaussian_filter(picture, _SMOOTHING_PX)
    deviation = np.sqrt(gaussian_filter(details * details, _SMOOTHING_PX))
    return np.clip(details / (deviation + 0.5), -3, 3)


def _score(picture: Float32[np.ndarray, "h w"], scale_x: float, scale_y: float) -> float:
    """Returns the largest score over all shifts of a picture that was scaled after it was marked."""
    if (scale_x, scale_y) != (1.0, 1.0):
        size = (max(round(picture.shape[1] / scale_x), 8), max(round(picture.shape[0] / scale_y), 8))
        box = (0, 0, min(size[0] * scale_x, picture.shape[1]), min(size[1] * scale_y, picture.shape[0]))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, box=box))
    height, width = picture.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), np.float32)
    padded[:height, :width] = picture
    spectrum = np.fft.fft2(padded.reshape(rows, TILE, columns, TILE).sum(axis=(0, 2)))
    is_used, phases = _spectrum()
    spectrum = np.where(is_used, spectrum / np.maximum(np.abs(spectrum), 1e-9), 0)
    plane = np.fft.ifft2(spectrum * phases.conj()).real
    return float(plane.max() * TILE**2 / np.sqrt(is_used.sum()))


def _best_scale(picture: Float32[np.ndarray, "h w"]) -> PictureMatch:
    """Returns the best match over _SCALES, refined for each axis."""
    middle = tuple(
        slice(max((side - _SEARCH_PX) // 2, 0), max((side - _SEARCH_PX) // 2, 0) + min(side, _SEARCH_PX))
        for side in picture.shape
    )
    coarse = sorted(((_score(picture[middle], scale, scale), scale) for scale in _SCALES), reverse=True)
    best = PictureMatch(0.0)
    for _, scale in coarse[:3]:
        scales, score = (scale, scale), _score(picture, scale, scale)
        for step in (0.003, 0.0015, 0.0008, 0.0004):
            tries = [
                (scales[0] * (1 + step * x), scales[1] * (1 + step * y))
                for x, y in ((1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
            ]
            found = max((_score(picture, *each), each) for each in tries)
            if found[0] > score:
                score, scales = found
        if score > best.score:
            best = PictureMatch(score, float(np.sqrt(scales[0] * scales[1])))
    return best
