import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from uniavgen.errors import MediaError
from uniavgen.media.audio import read_audio, write_wav

from .builders import RATE_HZ, tone


def store(path, codec: str, waveform: np.ndarray, rate_hz: int, layout: str = "mono") -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        planar = np.repeat(waveform[None], 2 if layout == "stereo" else 1, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planar), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_wav_round_trip_is_exact_on_16_bits(tmp_path, rng):
    waveform = (rng.integers(-32768, 32768, 5000) / 32768).astype(np.float32)
    write_wav(tmp_path / "a.wav", waveform, RATE_HZ)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE_HZ), waveform)


def test_write_wav_clips(tmp_path):
    write_wav(tmp_path / "a.wav", np.array([2.0, -2.0], np.float32), RATE_HZ)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE_HZ), [32767 / 32768, -1.0])


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_time_and_level(tmp_path, rate_hz):
    write_wav(tmp_path / "a.wav", tone(1.0, rate_hz), rate_hz)
    got = read_audio(tmp_path / "a.wav", RATE_HZ)
    assert abs(len(got) - RATE_HZ) <= 1
    middle = slice(2400, -2400)
    want = tone(1.0)[: len(got)]
    assert np.abs(got[middle] - want[middle]).max() < 1e-3


def test_resampling_removes_what_would_alias(tmp_path):
    write_wav(tmp_path / "a.wav", tone(0.5, 48_000, hz=18_000.0), 48_000)
    assert np.abs(read_audio(tmp_path / "a.wav", RATE_HZ)[1200:-1200]).max() < 1e-3


def test_stereo_is_mixed(tmp_path):
    left, right = tone(0.2, hz=300.0), tone(0.2, hz=500.0)
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        out.writeframes((np.stack([left, right], 1) * 32767).astype("<i2").tobytes())
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE_HZ), (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.ogg", "libopus"), ("a.mkv", "pcm_s16le")],
)
def test_muxs_keep_time(tmp_path, name, codec):
    rate_hz = 48_000
    waveform = np.zeros(rate_hz, np.float32)
    waveform[rate_hz // 2 : rate_hz // 2 + 200] = tone(200 / rate_hz, rate_hz, hz=1000.0, level=0.9)
    store(tmp_path / name, codec, waveform, rate_hz)
    got = read_audio(tmp_path / name, RATE_HZ)
    energy = np.square(got)
    centre_s = (energy * np.arange(len(got))).sum() / energy.sum() / RATE_HZ
    assert centre_s == pytest.approx(0.5 + 100 / rate_hz, abs=0.002)


def test_read_audio_cuts_the_same_samples_by_start_and_length(tmp_path, rng):
    waveform = (rng.integers(-9000, 9000, RATE_HZ) / 32768).astype(np.float32)
    write_wav(tmp_path / "a.wav", waveform, RATE_HZ)
    got = read_audio(tmp_path / "a.wav", RATE_HZ, start_s=0.25, max_s=0.5, trim=True)
    np.testing.assert_array_equal(got, waveform[6000:18000])


def test_audio_that_is_too_long_is_refused_or_trimmed(tmp_path):
    write_wav(tmp_path / "a.wav", tone(2.0), RATE_HZ)
    with pytest.raises(MediaError, match=r"lasts 2\.00 s, at most 1\.00 s"):
        read_audio(tmp_path / "a.wav", RATE_HZ, max_s=1.0)
    assert len(read_audio(tmp_path / "a.wav", RATE_HZ, max_s=1.0, trim=True)) == RATE_HZ


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.mkv"])
def test_audio_of_a_truncated_file_is_read_as_far_as_it_goes(tmp_path, caplog, name):
    path = tmp_path / name
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 48_000).astype(np.float32)
    if name == "a.wav":
        write_wav(path, noise, 48_000)
    else:
        store(path, {"a.flac": "flac", "a.mp3": "libmp3lame", "a.mkv": "aac"}[name], noise, 48_000)
    whole = read_audio(path, RATE_HZ)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = read_audio(path, RATE_HZ)
    assert 1.2 * RATE_HZ < len(part) < 1.8 * RATE_HZ
    np.testing.assert_allclose(part[: RATE_HZ // 2], whole[: RATE_HZ // 2], atol=1e-6)
    # An MP3 does not say how long it is.
    assert name == "a.mp3" or any("incomplete" in text or "damaged" in text for text in caplog.messages)


def test_audio_file_without_its_index_is_refused(tmp_path):
    path = tmp_path / "a.m4a"
    store(path, "aac", tone(3.0, 48_000), 48_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match="damaged"):
        read_audio(path, RATE_HZ)


def test_audio_file_without_samples_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\xc0\x5d\0\0\x80\xbb\0\0\2\0\x10\0data\0\0\0\0"
    )
    with pytest.raises(MediaError, match=r"sound|damaged"):
        read_audio(tmp_path / "a.wav", RATE_HZ)
