"""A continuation takes over without a step, and soon says what was made."""

import numpy as np
import pytest

from uniavgen.codecs.mel import PEAK
from uniavgen.inference.crossfade import (
    FADE_FRAMES,
    FADE_SAMPLES,
    LEVEL_FADE_SAMPLES,
    LEVEL_STEP_DB,
    SILENCE_PEAK,
    crossfade_audio,
    crossfade_frames,
    is_silent,
)


def test_step_between_frames_becomes_a_slope():
    given = np.full((5, 2, 2, 3), 100, np.uint8)
    decoded = np.full((5 + FADE_FRAMES + 3, 2, 2, 3), 190, np.uint8)
    joined = crossfade_frames(given, decoded)
    assert np.array_equal(joined[:5], given)
    assert np.array_equal(joined[5 + FADE_FRAMES :], decoded[5 + FADE_FRAMES :])
    steps = np.diff(joined[4 : 6 + FADE_FRAMES].astype(int), axis=0)
    assert np.array_equal(np.unique(steps), [90 // (FADE_FRAMES + 1)])


def test_motion_behind_the_seam_is_unchanged():
    rng = np.random.default_rng(0)
    decoded = rng.integers(100, 150, (12, 4, 4, 3), dtype=np.uint8)
    given = decoded[:5] + np.uint8(27)
    joined = crossfade_frames(given, decoded)
    # A decoder that is off by one constant is mended exactly: what is left is that constant, fading.
    added = joined[5:].astype(float) - decoded[5:]
    step = given[-1].astype(float) - decoded[5]
    shares = np.clip(1 - np.arange(1, 8) / (FADE_FRAMES + 1), 0, None)
    np.testing.assert_allclose(added, shares[:, None, None, None] * step, atol=0.5)


def test_crossfade_of_a_short_clip_is_no_error():
    joined = crossfade_frames(np.zeros((1, 2, 2, 3), np.uint8), np.full((3, 2, 2, 3), 90, np.uint8))
    assert joined[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_crossfade_restores_the_level_of_the_given_audio():
    # Whole periods in 20 ms, so that its level is one everywhere.
    waveform = 0.25 * np.sin(np.arange(9_600) * (2 * np.pi / 96), dtype=np.float32)
    given = waveform[:4_800]
    decoded = waveform * np.float32(PEAK / np.abs(given).max())
    joined = crossfade_audio(given, decoded, 4_800)
    np.testing.assert_allclose(joined, waveform, atol=1e-6)
    other = crossfade_audio(given, np.zeros_like(decoded), 4_800)
    assert np.array_equal(other[: 4_800 - FADE_SAMPLES], given[: 4_800 - FADE_SAMPLES])
    assert np.all(np.diff(np.abs(other[4_800:])) == 0)
    assert np.abs(np.diff(other)).max() < 0.02


@pytest.mark.parametrize(
    ("decoded_db", "begins_db"), [(-8, 0), (8, 0), (-30, LEVEL_STEP_DB - 30), (30, 30 - LEVEL_STEP_DB)]
)
def test_step_in_loudness_becomes_a_slope(decoded_db: float, begins_db: float):
    # Noise of one level: 20 ms of it are loud as all of it.
    hiss = np.tile(np.random.default_rng(0).uniform(-0.1, 0.1, 480).astype(np.float32), 20)
    given = hiss[:4_800].copy()
    given[0] = PEAK
    joined = crossfade_audio(given, hiss * np.float32(10 ** (decoded_db / 20)), 4_800)
    joined_db = 20 * np.log10(joined[4_800:] / hiss[4_800:])
    assert joined_db[0] == pytest.approx(begins_db, abs=1e-3)
    slope = np.diff(joined_db[:LEVEL_FADE_SAMPLES])
    np.testing.assert_allclose(slope, (decoded_db - begins_db) / LEVEL_FADE_SAMPLES, atol=1e-4)
    np.testing.assert_allclose(joined_db[LEVEL_FADE_SAMPLES:], decoded_db, atol=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.9 * SILENCE_PEAK])
def test_silent_audio_has_no_level(noise: float):
    given, decoded = np.full(480, noise, np.float32), np.full(960, 0.5, np.float32)
    assert is_silent(given)
    joined = crossfade_audio(given, decoded, 480)
    assert np.all(joined[480:] == 0.5)
    assert np.all(joined[:240] == given[:240])
    assert not is_silent(np.array([0.0, -1.1 * SILENCE_PEAK], np.float32))
