"""Mood and age in a voice: pitch, loudness and brightness of finished speech."""

from fractions import Fraction

import numpy as np
from jaxtyping import Float32
from scipy import signal

from uniavgen.synth.speech import SAMPLE_RATE_HZ, Speech

_SHELF_HZ = 1500.0
NEUTRAL_PEAK = 0.55
"""Highest sample of a voice without a mood."""
_PEAK = 0.9
_QUIETEST_DB = -8.0


def retune(speech: Speech, pitch: float) -> Speech:
    """Plays speech `pitch` times as fast, so pitch and formants rise and all times shrink by it."""
    ratio = Fraction(pitch).limit_denominator(60)
    if ratio == 1:
        return speech
    waveform = signal.resample_poly(speech.waveform, ratio.denominator, ratio.numerator)
    factor = float(ratio)
    phones = tuple((symbol, start / factor, end / factor) for symbol, start, end in speech.phones)
    return Speech(waveform=waveform.astype(np.float32), phones=phones)


def colour(
    waveform: Float32[np.ndarray, " samples"], gain_db: float, brightness_db: float
) -> Float32[np.ndarray, " samples"]:
    """Louder or softer, and brighter or duller above 1.5 kHz; 0 dB is a peak of NEUTRAL_PEAK."""
    treble = waveform - signal.sosfilt(signal.butter(1, _SHELF_HZ, fs=SAMPLE_RATE_HZ, output="sos"), waveform)
    shaped = waveform + (10 ** (brightness_db / 20) - 1) * treble
    gain = 10 ** (max(gain_db, _QUIETEST_DB) / 20)
    peak = max(float(np.abs(shaped).max(initial=0)), 1e-6)
    return np.clip(NEUTRAL_PEAK * gain / peak * shaped, -_PEAK, _PEAK).astype(np.float32)


def place(speech: Speech, start_s: float, num_samples: int) -> Speech:
    """Speech that begins `start_s` into a silence of `num_samples`; what does not fit is cut, with its phones."""
    waveform = np.zeros(num_samples, np.float32)
    start = round(start_s * SAMPLE_RATE_HZ)
    shown = speech.waveform[: num_samples - start]
    waveform[start : start + len(shown)] = shown
    end_s = num_samples / SAMPLE_RATE_HZ
    phones = tuple(
        (symbol, max(a + start_s, 0.0), min(b + start_s, end_s))
        for symbol, a, b in speech.phones
        if a + start_s < end_s
    )
    return Speech(waveform=waveform, phones=phones)
