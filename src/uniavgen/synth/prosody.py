"""Mood and age in a voice: pitch, loudness and tone of finished speech."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Float32
from scipy import signal

from uniavgen.synth.speech import SAMPLE_RATE_HZ, Speech

_TONE_TAPS = 511
NEUTRAL_PEAK = 0.55
"""Highest sample of a voice without a mood."""
_PEAK = 0.9
_QUIETEST_DB = -8.0


def resample_pitch(speech: Speech, pitch: float) -> Speech:
    """Plays speech `pitch` times as fast, so pitch and formants rise and all times shrink by it."""
    ratio = Fraction(pitch).limit_denominator(60)
    if ratio == 1:
        return speech
    waveform = signal.resample_poly(speech.waveform, ratio.denominator, ratio.numerator)
    factor = float(ratio)
    phones = tuple((symbol, start / factor, end / factor) for symbol, start, end in speech.phones)
    return Speech(waveform=waveform.astype(np.float32), phones=phones)


def apply_tone(
    waveform: Float32[np.ndarray, " samples"], gain_db: float, tone_db: Mapping[float, float]
) -> Float32[np.ndarray, " samples"]:
    """Returns the waveform at another level and with another spectrum.

    gain_db: 0 dB is a peak of NEUTRAL_PEAK. tone_db: gains in dB by frequency in Hz, as in `Mood`.
    """
    shaped = signal.oaconvolve(waveform, _tone_filter(tone_db), mode="same") if tone_db else waveform
    gain = 10 ** (max(gain_db, _QUIETEST_DB) / 20)
    peak = max(float(np.abs(shaped).max(initial=0)), 1e-6)
    return np.clip(NEUTRAL_PEAK * gain / peak * shaped, -_PEAK, _PEAK).astype(np.float32)


def _tone_filter(tone_db: Mapping[float, float]) -> Float32[np.ndarray, " taps"]:
    """Returns a filter of no delay when convolved in mode "same"."""
    grid = np.linspace(0, SAMPLE_RATE_HZ / 2, 257)
    log_hz = np.log(sorted(tone_db))
    gains_db = np.interp(np.log(np.maximum(grid, 1.0)), log_hz, [tone_db[hz] for hz in sorted(tone_db)])
    return signal.firwin2(_TONE_TAPS, grid, 10 ** (gains_db / 20), fs=SAMPLE_RATE_HZ).astype(np.float32)


def pad_to_length(speech: Speech, start_s: float, num_samples: int) -> Speech:
    """Places speech at `start_s` in `num_samples` of silence; what does not fit is cut, with its phones."""
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
