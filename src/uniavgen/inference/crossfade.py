"""Where a continuation takes over from what was given.

A clip keeps its given part as it is. What the codecs give back of that part is a little other in sharpness, colour and
level, and so is what the model made behind it: left alone, that is seen and heard as a step. [ours; no continuation in
the release]

Letters: g given frames, F frames of the clip, h w pixels, s given samples, S samples of the clip.
"""

import math
from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.codecs.mel import PEAK

FADE_FRAMES: Final = 8
"""Frames over which the step in the picture fades: half a second."""
FADE_SAMPLES: Final = 240
"""Samples over which the sounds are faded into each other, the last given ones: 10 ms."""
LEVEL_SAMPLES: Final = 480
"""Samples on either side whose levels make the step in loudness: 20 ms."""
LEVEL_FADE_SAMPLES: Final = 2_400
"""Samples over which the step in loudness fades: 100 ms."""
LEVEL_STEP_DB: Final = 12.0
"""The largest step that is mended. A larger one is a word that begins or ends there, which may be heard."""
QUIET: Final = 1e-3
"""Level below which all is silence, of full scale: -60 dB."""
UNHEARD_PEAK: Final = 0.03
"""Given sound that nowhere exceeds this (-30 dB of full scale) holds no speech: the end of a word or noise."""


def is_silent(given: Float32[np.ndarray, " s"]) -> bool:
    """Whether nothing is said in the given sound, so that speech begins behind it and its level means nothing."""
    return float(np.abs(given).max(initial=0.0)) < UNHEARD_PEAK


def crossfade_frames(
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


def crossfade_audio(
    given: Float32[np.ndarray, " s"], decoded: Float32[np.ndarray, " S"], samples: int
) -> Float32[np.ndarray, " S"]:
    """`samples` of the given sound, then the decoded one at the level of the given, faded into each other; the step in
    loudness between the two fades too.

    given: at its own level, all that was peak-normalised for the model; where it is silent (`is_silent`) the decoded
    waveform keeps its own level.
    """
    loudest = 0.0 if is_silent(given) else float(np.abs(given).max())
    joined = decoded * np.float32(loudest / PEAK if loudest else 1.0)
    generated = joined[samples:]
    if loudest and samples and len(generated):
        step_db = _level_db(given[:samples][-LEVEL_SAMPLES:]) - _level_db(generated[:LEVEL_SAMPLES])
        slope = np.maximum(1 - np.arange(len(generated)) / LEVEL_FADE_SAMPLES, 0)
        generated *= (10 ** (np.clip(step_db, -LEVEL_STEP_DB, LEVEL_STEP_DB) * slope / 20)).astype(np.float32)
    fade = min(FADE_SAMPLES, samples)
    share = np.ones(samples, np.float32)
    share[samples - fade :] = 1 - (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    joined[:samples] = share * given[:samples] + (1 - share) * joined[:samples]
    return joined


def _level_db(sound: Float32[np.ndarray, " n"]) -> float:
    return 20 * math.log10(max(float(np.sqrt(np.mean(sound**2))), QUIET))
