"""Loudness as hearing weighs it. [ITU-R BS.1770-4]

Letters: c channels.
"""

from typing import Final

import numpy as np
from jaxtyping import Float
from scipy.signal import sosfilt

SILENCE_LUFS: Final = -70.0
"""The absolute gate, and what stands for silence, whose loudness would be minus infinity. [BS.1770-4]"""
_OFFSET_LU: Final = -0.691
_BLOCK_S, _HOP_S = 0.4, 0.1
_RELATIVE_GATE_LU: Final = -10.0


class LoudnessMeter:
    """Measures sound of any length in pieces of whole tenths of a second."""

    def __init__(self, rate_hz: int, num_channels: int) -> None:
        self.hop = round(_HOP_S * rate_hz)
        self._sections = k_weighting(rate_hz)
        self._state = np.zeros((len(self._sections), num_channels, 2))
        self._rest = np.zeros((num_channels, 0))
        self._powers: list[np.ndarray] = []

    def push(self, samples: Float[np.ndarray, "c samples"]) -> None:
        """Takes the next samples; at the end what is beyond a whole number of hops is left out."""
        samples = np.concatenate([self._rest, samples.astype(np.float64)], axis=1)
        whole = samples.shape[1] // self.hop * self.hop
        samples, self._rest = samples[:, :whole], samples[:, whole:]
        if not whole:
            return
        weighted, self._state = sosfilt(self._sections, samples, axis=1, zi=self._state)
        self._powers.append(np.square(weighted).reshape(len(samples), -1, self.hop).mean(axis=2).sum(axis=0))

    @property
    def powers(self) -> Float[np.ndarray, " hops"]:
        """Returns the weighted power of every tenth of a second, summed over the channels."""
        return np.concatenate([np.zeros(0), *self._powers])

    def curve_lufs(self, step_s: float = 1.0) -> Float[np.ndarray, " steps"]:
        """Returns the loudness of every `step_s`, without gates; the last step may be shorter."""
        hops = max(round(step_s / _HOP_S), 1)
        powers = self.powers
        return lufs(np.array([powers[i : i + hops].mean() for i in range(0, len(powers), hops)]))

    def integrated_lufs(self) -> float:
        """Returns the loudness of the whole, over blocks of 0.4 s that pass both gates."""
        hops = round(_BLOCK_S / _HOP_S)
        powers = self.powers
        if len(powers) < hops:
            return SILENCE_LUFS
        blocks = np.convolve(powers, np.full(hops, 1 / hops), "valid")
        for gate in (SILENCE_LUFS, None):
            gate = lufs(blocks.mean(keepdims=True)) + _RELATIVE_GATE_LU if gate is None else gate
            blocks = blocks[lufs(blocks) > gate]
            if not len(blocks):
                return SILENCE_LUFS
        return float(lufs(blocks.mean(keepdims=True))[0])


def lufs(power: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Returns the loudness of a weighted power, at least SILENCE_LUFS."""
    floor = 10 ** ((SILENCE_LUFS - _OFFSET_LU) / 10)
    return _OFFSET_LU + 10 * np.log10(np.maximum(power, floor))


def k_weighting(rate_hz: int) -> Float[np.ndarray, "2 6"]:
    """Returns the two filters as second-order sections: a high shelf for the head and a high pass, at any rate.

    The standard gives coefficients for 48 kHz alone; these are the analog filters behind them. [libebur128]
    """
    frequency, gain_db, quality = 1681.974450955533, 3.999843853973347, 0.7071752369554196
    k, high = np.tan(np.pi * frequency / rate_hz), 10 ** (gain_db / 20)
    band = high**0.4996667741545416
    norm = 1 + k / quality + k * k
    shelf = [
        (high + band * k / quality + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - band * k / quality + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / quality + k * k) / norm,
    ]
    frequency, quality = 38.13547087602444, 0.5003270373238773
    k = np.tan(np.pi * frequency / rate_hz)
    norm = 1 + k / quality + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]
    return np.array([shelf, high_pass])
