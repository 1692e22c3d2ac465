"""Features of a voice: log-mel spectra and pitch statistics.

Letters: l mel frames, mel bins, n pitch frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from uniavgen.codecs.mel import MelConfig, log_mel
from uniavgen.perception.sound import SPEECH_RATE_HZ

MELS_PER_S = 100
LIP_SYNC_MEL = MelConfig(num_mel=40, num_fft=512, hop=SPEECH_RATE_HZ // MELS_PER_S, sample_rate_hz=SPEECH_RATE_HZ)
"""Short window, so sharp in time: for lip sync. [ours]"""
VOICE_MEL = MelConfig(num_mel=80, num_fft=1024, hop=SPEECH_RATE_HZ // MELS_PER_S, sample_rate_hz=SPEECH_RATE_HZ)
"""Long window, so sharp in frequency: for who speaks and how. [ours]"""
MIN_PITCH_HZ, MAX_PITCH_HZ = 70.0, 420.0
"""Range of voices. [ours]"""
PITCH_WINDOW = 1024
"""Samples over which a pitch is measured. [ours]"""
VOICED_AUTOCORRELATION = 0.5
"""Least normalised autocorrelation of a voiced window. [ours]"""


def waveform_log_mel(waveform: Float32[np.ndarray, " samples"], config: MelConfig) -> Float[np.ndarray, "l mel"]:
    """Returns the log-mel spectrum of a 16 kHz waveform; frame k is centred at (k + 1/2) / 100 s.

    A waveform shorter than the FFT is padded with zeros.
    """
    padded = np.pad(waveform, (0, max(config.num_fft - len(waveform), 0)))
    return log_mel(torch.from_numpy(padded[None]), config)[0].numpy()


@dataclass(frozen=True, kw_only=True)
class PitchStatistics:
    """Pitch of a voice over a clip."""

    octave: float
    """Median pitch over 200 Hz, in octaves; 0 where nothing is voiced."""
    range: float
    """Distance of the quartiles in octaves."""

    @classmethod
    def of(cls, waveform: Float32[np.ndarray, " samples"]) -> "PitchStatistics":
        """Measures a 16 kHz waveform."""
        octaves = np.log2(_pitches(waveform) / 200)
        low, middle, high = np.quantile(octaves, [0.25, 0.5, 0.75]) if len(octaves) else (0.0, 0.0, 0.0)
        return cls(octave=float(middle), range=float(high - low))

    def values(self) -> Float32[np.ndarray, " 2"]:
        """Returns octave and range as the input of a network."""
        return np.array([self.octave, self.range], np.float32)


def _pitches(waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " n"]:
    """Returns the pitch in Hz of every voiced 10 ms: the highest peak of the normalised autocorrelation."""
    hop = SPEECH_RATE_HZ // MELS_PER_S
    if len(waveform) < PITCH_WINDOW:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), PITCH_WINDOW)[::hop]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(PITCH_WINDOW)
    power = np.square(frames).sum(axis=1)
    # The autocorrelation is the inverse transform of the power spectrum; twice the window avoids wrapping around.
    spectrum = np.abs(np.fft.rfft(frames, 2 * PITCH_WINDOW, axis=1)) ** 2
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(PITCH_WINDOW), 2 * PITCH_WINDOW)) ** 2)
    first, last = int(SPEECH_RATE_HZ / MAX_PITCH_HZ), int(SPEECH_RATE_HZ / MIN_PITCH_HZ)
    lags = np.arange(first - 1, last + 2)
    # Divided by the window's own autocorrelation, which falls with the lag.
    correlation = np.fft.irfft(spectrum, axis=1)[:, lags] / np.maximum(power, 1e-9)[:, None]
    correlation = correlation * (window[0] / window[lags])
    # A small penalty for long lags keeps multiples of the period from winning.
    inner = correlation[:, 1:-1] - 0.02 * np.log2(lags[1:-1] / first)
    best = inner.argmax(axis=1) + 1
    row = np.arange(len(best))
    before, at, after = (correlation[row, best + step] for step in (-1, 0, 1))
    # The vertex of the parabola through three neighbours gives a fraction of a lag.
    curvature = np.minimum(before - 2 * at + after, -1e-9)
    lag = lags[best] + np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)
    voiced = (at > VOICED_AUTOCORRELATION) & (power > 0.02 * np.quantile(power, 0.95))
    return SPEECH_RATE_HZ / lag[voiced]
