"""What networks of ours hear of a voice: log-mel spectra and pitch.

Letters: l mel frames, mel bins, n pitch frames.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from uniavgen.codecs.mel import MelConfig, log_mel
from uniavgen.evaluation.clip import SPEECH_RATE_HZ

MELS_PER_S = 100
LIPS_MEL = MelConfig(num_mel=40, num_fft=512, hop=SPEECH_RATE_HZ // MELS_PER_S, sample_rate_hz=SPEECH_RATE_HZ)
"""Sharp in time, for lips. [ours]"""
VOICE_MEL = MelConfig(num_mel=80, num_fft=1024, hop=SPEECH_RATE_HZ // MELS_PER_S, sample_rate_hz=SPEECH_RATE_HZ)
"""Sharp in pitch, for who speaks and how. [ours]"""
LOWEST_HZ, HIGHEST_HZ = 70.0, 420.0
"""Voices lie between. [ours]"""
_WINDOW, _VOICED = 1024, 0.5
"""Samples that a pitch is measured over; least autocorrelation of voiced sound."""


def mel(waveform: Float32[np.ndarray, " samples"], config: MelConfig) -> Float[np.ndarray, "l mel"]:
    """Log-mel spectrum of 16 kHz sound; frame k is around (k + 1/2) / 100 s. Sound below half a window is padded."""
    padded = np.pad(waveform, (0, max(config.num_fft - len(waveform), 0)))
    return log_mel(torch.from_numpy(padded[None]), config)[0].numpy()


@dataclass(frozen=True, kw_only=True)
class Tone:
    """Pitch of a voice."""

    octave: float
    """Median pitch over 200 Hz, in octaves; 0 where nothing is voiced."""
    range: float
    """Distance of its quartiles in octaves."""

    @classmethod
    def of(cls, waveform: Float32[np.ndarray, " samples"]) -> "Tone":
        """Of 16 kHz sound."""
        octaves = np.log2(_pitches(waveform) / 200)
        low, middle, high = np.quantile(octaves, [0.25, 0.5, 0.75]) if len(octaves) else (0.0, 0.0, 0.0)
        return cls(octave=float(middle), range=float(high - low))

    def values(self) -> Float32[np.ndarray, " 2"]:
        """Both."""
        return np.array([self.octave, self.range], np.float32)


def _pitches(waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, " n"]:
    """Pitch in Hz of every voiced 10 ms, by the highest peak of the normalised autocorrelation."""
    hop = SPEECH_RATE_HZ // MELS_PER_S
    if len(waveform) < _WINDOW:
        return np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), _WINDOW)[::hop]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_WINDOW)
    power = np.square(frames).sum(axis=1)
    spectrum = np.abs(np.fft.rfft(frames, 2 * _WINDOW, axis=1)) ** 2
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_WINDOW), 2 * _WINDOW)) ** 2)
    first, last = int(SPEECH_RATE_HZ / HIGHEST_HZ), int(SPEECH_RATE_HZ / LOWEST_HZ)
    lags = np.arange(first - 1, last + 2)
    likeness = np.fft.irfft(spectrum, axis=1)[:, lags] / np.maximum(power, 1e-9)[:, None] * (window[0] / window[lags])
    # A small price for long lags keeps multiples of the period from winning.
    inner = likeness[:, 1:-1] - 0.02 * np.log2(lags[1:-1] / first)
    best = inner.argmax(axis=1) + 1
    row = np.arange(len(best))
    before, at, after = (likeness[row, best + step] for step in (-1, 0, 1))
    bend = np.minimum(before - 2 * at + after, -1e-9)
    lag = lags[best] + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    voiced = (at > _VOICED) & (power > 0.02 * np.quantile(power, 0.95))
    return SPEECH_RATE_HZ / lag[voiced]
