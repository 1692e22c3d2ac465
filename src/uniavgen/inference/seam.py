"""Where a continuation takes over from what was given.

A clip keeps its given part as it is. What the codecs give back of that part is a little other in sharpness, colour and
level, and so is what the model made behind it: left alone, that is seen and heard as a step. [ours; no continuation in
the release]

Letters: g given frames, F frames of the clip, h w pixels, s given samples, S samples of the clip.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.codecs.mel import PEAK

FADE_FRAMES: Final = 8
"""Frames over which the step in the picture fades: half a second."""
FADE_SAMPLES: Final = 240
"""Samples over which the sounds are faded into each other, the last given ones: 10 ms."""


def join_frames(
    given: UInt8[np.ndarray, "g h w 3"], decoded: UInt8[np.ndarray, "F h w 3"]
) -> UInt8[np.ndarray, "F h w 3"]:
    """The given frames, then the decoded ones, which begin where the given end: the step between the two is added to
    the first frames and fades."""
    count = len(given)
    joined = np.concatenate([given, decoded[count:]])
    step = given[-1].astype(np.float32) - decoded[count]
    for number, frame in enumerate(joined[count : count + FADE_FRAMES], start=1):
        share = 1 - number / (FADE_FRAMES + 1)
        frame[:] = np.clip(np.round(frame + share * step), 0, 255).astype(np.uint8)
    return joined


def join_sound(
    given: Float32[np.ndarray, " s"], decoded: Float32[np.ndarray, " S"], samples: int
) -> Float32[np.ndarray, " S"]:
    """`samples` of the given sound, then the decoded one at the level of the given, faded into each other.

    given: at its own level, all that was peak-normalised for the model; silence has no level, and then the decoded
    sound keeps its own.
    """
    loudest = float(np.abs(given).max(initial=0.0))
    joined = decoded * np.float32(loudest / PEAK if loudest else 1.0)
    fade = min(FADE_SAMPLES, samples)
    share = np.ones(samples, np.float32)
    share[samples - fade :] = 1 - (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    joined[:samples] = share * given[:samples] + (1 - share) * joined[:samples]
    return joined
