"""The mark in sound: found where it is, not found where it is not, and nothing else changed."""

import io

import av
import numpy as np
import pytest

from uniavgen.media.audio import read_audio
from uniavgen.provenance.sound_mark import SCORE_THRESHOLD, mark_sound, sound_score

RATE_HZ = 24_000


def speech_like(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Returns syllables of a gliding voice with formants, so that sound and silence alternate as in speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time) + 10 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    voice = sum(
        np.sin(k * phase + rng.uniform(0, 6)) / (1 + abs(k * 120 - centre) / 200)
        for centre in (500, 1500, 2500)
        for k in range(1, 40)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time), 0, 1) ** 0.5
    noise = rng.standard_normal(len(time)) * 0.003
    return (0.1 * voice * syllables + noise).astype(np.float32)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return speech_like()


@pytest.fixture(scope="module")
def marked(voice: np.ndarray) -> np.ndarray:
    return mark_sound(voice, RATE_HZ)


def aac(waveform: np.ndarray, bits_per_second: int) -> np.ndarray:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        stream.bit_rate = bits_per_second
        frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return read_audio(content.getvalue(), RATE_HZ)


def test_sound_mark_is_found_only_where_it_is(voice, marked):
    assert sound_score(voice, RATE_HZ) < SCORE_THRESHOLD < sound_score(marked, RATE_HZ)


@pytest.mark.parametrize("bits_per_second", [64_000, 128_000])
def test_sound_mark_survives_aac(marked, bits_per_second):
    assert sound_score(aac(marked, bits_per_second), RATE_HZ) > SCORE_THRESHOLD


def test_sound_mark_survives_cutting(marked):
    assert sound_score(marked[RATE_HZ // 3 :][: 2 * RATE_HZ], RATE_HZ) > SCORE_THRESHOLD


def test_sound_mark_leaves_what_was_given(voice):
    num_given = RATE_HZ + 7
    marked = mark_sound(voice, RATE_HZ, num_given)
    assert np.array_equal(marked[:num_given], voice[:num_given])
    assert sound_score(marked[num_given:], RATE_HZ) > SCORE_THRESHOLD


def test_sound_mark_changes_nothing_above_its_band(voice, marked):
    change = np.abs(np.fft.rfft(marked - voice)) ** 2
    above = np.fft.rfftfreq(len(voice), 1 / RATE_HZ) > 2500
    assert 0 < change[above].sum() < 1e-3 * change.sum()


@pytest.mark.parametrize("waveform", [np.zeros(30_000, np.float32), np.ones(50, np.float32)])
def test_sound_mark_skips_silence_and_clicks(waveform):
    assert np.array_equal(mark_sound(waveform, RATE_HZ), waveform)
    assert sound_score(waveform, RATE_HZ) is None


@pytest.mark.parametrize("hertz", [[440], [220, 277, 330], [100, 1300], [50], [1900]])
@pytest.mark.parametrize("level", [0.05, 0.5])
def test_pure_tones_are_not_taken_for_the_sound_mark(hertz, level):
    """The network alone gives some of them 0.9."""
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = level * np.mean([np.sin(2 * np.pi * each * time) for each in hertz], axis=0)
    for waveform in (tone.astype(np.float32), aac(tone.astype(np.float32), 96_000)):
        score = sound_score(waveform, RATE_HZ)
        assert score is None or score < SCORE_THRESHOLD


def test_sweeps_and_noise_are_not_taken_for_the_sound_mark():
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal(len(time)) * 0.1
    for waveform in (np.sin(2 * np.pi * (100 + 300 * time) * time) * 0.3, noise, np.cumsum(noise) * 0.01):
        score = sound_score(waveform.astype(np.float32), RATE_HZ)
        assert score is None or score < SCORE_THRESHOLD
