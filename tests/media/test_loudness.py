"""The loudness meter against the figures of its standard."""

import numpy as np
import pytest

from uniavgen.media.loudness import SILENCE_LUFS, LoudnessMeter


def _meter(samples, rate_hz, block_s=0.73):
    meter = LoudnessMeter(rate_hz, len(samples))
    for block in np.array_split(samples, max(int(samples.shape[1] / rate_hz / block_s), 1), axis=1):
        meter.push(block)
    return meter


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 48_000])
def test_tone_at_full_scale_reads_what_the_standard_says(rate_hz):
    """BS.1770-4: 997 Hz at 0 dB in one channel reads -3.01 LUFS, in two 3.01 more."""
    tone = np.sin(2 * np.pi * 997 * np.arange(5 * rate_hz) / rate_hz)[None]
    assert _meter(tone, rate_hz).integrated_lufs() == pytest.approx(-3.01, abs=0.05)
    assert _meter(np.repeat(0.1 * tone, 2, axis=0), rate_hz).integrated_lufs() == pytest.approx(-20.0, abs=0.05)


def test_low_frequencies_count_less():
    time = np.arange(5 * 48_000) / 48_000
    low, high = (_meter(np.sin(2 * np.pi * f * time)[None], 48_000).integrated_lufs() for f in (40, 3000))
    assert low < -6
    assert high == pytest.approx(-3.01 + 3.3, abs=0.3)


def test_silence_is_a_number_and_does_not_lower_the_whole():
    tone = 0.1 * np.sin(2 * np.pi * 997 * np.arange(3 * 48_000) / 48_000)
    meter = _meter(np.concatenate([tone, np.zeros(3 * 48_000)])[None], 48_000)
    assert meter.integrated_lufs() == pytest.approx(-23.01, abs=0.3)
    np.testing.assert_allclose(meter.curve_lufs(), [-23.0] * 3 + [SILENCE_LUFS] * 3, atol=0.5)
    assert _meter(np.zeros((1, 48_000)), 48_000).integrated_lufs() == SILENCE_LUFS
