"""Joins the generated part of a continuation to the given part without a visible or audible step.

A clip keeps its given part as it is. The codecs return that part with slightly different sharpness, colour and level,
and the generated part behind it differs in the same way: without a fade that is visible and audible as a step. [ours;
the release has no continuation]

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
"""Samples of the crossfade, the last given ones: 10 ms."""
LEVEL_SAMPLES: Final = 480
"""Samples on either side of the seam whose levels are compared: 20 ms."""
LEVEL_FADE_SAMPLES: Final = 2_400
"""Samples over which the step in loudness fades: 100 ms."""
LEVEL_STEP_DB: Final = 12.0
"""The largest step that is corrected. A larger one is a word that begins or ends at the seam."""
QUIET: Final = 1e-3
"""Lowest level that is told apart from silence, relative to full scale: -60 dB."""
SILENCE_PEAK: Final = 0.03
"""Given audio that nowhere exceeds this (-30 dB of full scale) holds no speech: the end of a word or noise."""


def is_silent(given: Float32[np.ndarray, " s"]) -> bool:
    """Whether the given audio holds no speech, so that the speech begins behind it and its level means nothing."""
    return float(np.abs(given).max(initial=0.0)) < SILENCE_PEAK


def crossfade_frames(
    given: UInt8[np.ndarray, "g h w 3"], decoded: UInt8[np.ndarray, "F h w 3"]
) -> UInt8[np.ndarray, "F h w 3"]:
    """Returns the given frames, then the decoded ones behind them.

    The difference between the last given frame and its decoded successor is added to the next FADE_FRAMES frames with
    a weight that falls to 0, so that no step is visible.
    """
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
    """Returns `samples` samples of the given audio, then the decoded audio at the level of the given, crossfaded.

    The step in loudness at the seam fades over LEVEL_FADE_SAMPLES.

    given: all audio that was peak-normalised for the model, at its original level; where it is silent (`is_silent`)
        the decoded waveform keeps its own level.
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


def _level_db(waveform: Float32[np.ndarray, " n"]) -> float:
    """Returns the RMS level in dB of full scale, at least that of QUIET."""
    return 20 * math.log10(max(float(np.sqrt(np.mean(waveform**2))), QUIET))
