"""The sound that perception networks take: mono at 16 kHz."""

import numpy as np
from jaxtyping import Float32

SPEECH_RATE_HZ = 16_000
"""Sample rate of Whisper, SyncNet, AudioBox-Aesthetics, DNSMOS and CAM++."""
SILENCE_DB = -60.0
"""Loudest 0.1 s of a clip that counts as silent, RMS to full scale. [Ovi's filter of training clips]"""


def is_silent(waveform: Float32[np.ndarray, " samples"]) -> bool:
    """Returns whether no 0.1 s of a 16 kHz waveform is louder than SILENCE_DB; an empty one is silent."""
    if not len(waveform):
        return True
    window = min(SPEECH_RATE_HZ // 10, len(waveform))
    power = np.convolve(np.square(waveform, dtype=np.float64), np.full(window, 1 / window), "valid")
    return bool(power.max() < 10 ** (SILENCE_DB / 10))
