"""A recording that is kept plays in the clip as it plays by itself, whatever it was and whatever holds it."""

from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest

from uniavgen.errors import MediaError
from uniavgen.media.audio import read_audio
from uniavgen.media.mux import AudioTransfer, write_clip_keeping_audio
from uniavgen.media.stream_copy import plan_audio

from .builders import FPS, Pipe, add_audio, add_video, click_times, clicks, moving_bar, write_media

SUFFIXES = (".mp4", ".mov", ".mkv")
AT_S = (0.25, 1.0, 1.75)
TWO_CLICKS = partial(clicks, 2.0, AT_S)


def _late(time_s: float) -> float:
    return time_s + 0.4


def _gap(time_s: float) -> float:
    return time_s + 0.14 * (time_s >= 0.5)


def _early(time_s: float) -> float:
    return time_s - 0.3


def _audio(codec: str, rate_hz: int = 48_000, **arguments):
    return lambda out: add_audio(out, TWO_CLICKS(rate_hz), rate_hz, codec, **arguments)


def _video(**arguments):
    return lambda out: add_video(out, moving_bar(32), **arguments)


SOURCES = {
    "late PCM": ("a.mov", [_video(), _audio("pcm_s16le", times=_late)]),
    "late AAC": ("a.mp4", [_video(), _audio("aac", times=_late)]),
    "late Opus": ("a.mkv", [_video(), _audio("libopus", times=_late)]),
    "late FLAC alone": ("a.mka", [_audio("flac", times=_late)]),
    "before the picture": ("a.mkv", [_video(times=_late), _audio("pcm_s16le")]),
    "gap in PCM": ("a.mkv", [_audio("pcm_s16le", times=_gap)]),
    "gap in Opus": ("a.webm", [_audio("libopus", times=_gap)]),
    "gap in AAC": ("a.mp4", [_video(), _audio("aac", 44_100, times=_gap)]),
    "hidden beginning": ("a.mp4", [_video(times=_early), _audio("aac", times=_early)]),
    "AAC": ("a.m4a", [_audio("aac", 44_100)]),
    "AAC of 8 kHz": ("a.m4a", [_audio("aac", 8000)]),
    "AAC without a container": ("a.aac", [_audio("aac")]),
    "MP3": ("a.mp3", [_audio("libmp3lame", 44_100, layout="stereo")]),
    "MP3 in MKV": ("a.mkv", [_audio("libmp3lame", 44_100)]),
    "Opus in Ogg": ("a.ogg", [_audio("libopus")]),
    "ALAC": ("a.m4a", [_audio("alac", 44_100)]),
    "AC-3": ("a.ac3", [_audio("ac3", layout="5.1")]),
    "MPEG-TS": ("a.ts", [_video(), _audio("aac")]),
    "AVI": ("a.avi", [_video(codec="mpeg4"), _audio("pcm_s16le", 16_000)]),
    "mu-law": ("a.wav", [_audio("pcm_mulaw", 8000)]),
    "8 bits": ("a.wav", [_audio("pcm_u8", 11_025)]),
    "24 bits": ("a.wav", [_audio("pcm_s24le", 96_000, layout="stereo")]),
    "192 kHz": ("a.wav", [_audio("pcm_f32le", 192_000)]),
    "5.1 FLAC": ("a.flac", [_audio("flac", layout="5.1")]),
    "7.1 PCM": ("a.wav", [_audio("pcm_s16le", layout="7.1")]),
    "64 bits": ("a.wav", [_audio("pcm_f64le", 22_050)]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", SOURCES)
def test_kept_audio_plays_as_in_its_source(tmp_path, case, suffix):
    name, tracks = SOURCES[case]
    source, clip = tmp_path / name, tmp_path / f"clip{suffix}"
    write_media(source, *tracks)
    write_clip_keeping_audio(clip, moving_bar(40), FPS, source, {})
    expected = click_times(source)
    expected = [time_s for time_s in expected if time_s >= 0]
    assert len(expected) >= 2
    np.testing.assert_allclose(click_times(clip), expected, atol=1e-3)
    before, after = read_audio(source, 48_000), read_audio(clip, 48_000)
    assert 0 <= len(after) - len(before) + 48 < 0.15 * 48_000
    np.testing.assert_allclose(np.abs(after).max(), np.abs(before).max(), atol=0.02)


def test_kept_audio_that_is_encoded_anew_starts_to_the_sample(tmp_path):
    write_media(tmp_path / "a.mov", *SOURCES["late PCM"][1])
    for suffix in SUFFIXES:
        write_clip_keeping_audio(tmp_path / f"b{suffix}", moving_bar(40), FPS, tmp_path / "a.mov", {})
        waveform = read_audio(tmp_path / f"b{suffix}", 48_000)
        first = int(np.argmax(np.abs(waveform) > 0.02))
        assert first == pytest.approx((0.4 + 0.25) * 48_000, abs=1)


@pytest.mark.parametrize(("suffix", "expected"), [(".mp4", False), (".mov", True), (".mkv", True)])
def test_plain_wav_takes_a_form_that_the_container_holds(tmp_path, suffix, expected):
    write_media(tmp_path / "a.wav", _audio("pcm_s16le"))
    plan = plan_audio(tmp_path / "a.wav", suffix)
    assert (plan.transfer is AudioTransfer.COPIED) == expected
    assert expected or plan.encoder == "flac"


def test_sixteen_channels_are_refused_where_flac_would_hold_them(tmp_path):
    write_media(tmp_path / "a.wav", _audio("pcm_s16le", layout="hexadecagonal"))
    with pytest.raises(MediaError, match=r"16 channels.*\.mov"):
        plan_audio(tmp_path / "a.wav", ".mp4")
    assert plan_audio(tmp_path / "a.wav", ".mov")


def test_recording_of_a_browser_has_no_duration_and_plays_alike(tmp_path):
    pipe = Pipe()
    with av.open(pipe, "w", format="webm") as out:
        add_audio(out, TWO_CLICKS(48_000), 48_000, "libopus")()
    (tmp_path / "a.webm").write_bytes(bytes(pipe.content))
    with av.open(str(tmp_path / "a.webm")) as container:
        assert container.duration is None
    for suffix in SUFFIXES:
        write_clip_keeping_audio(tmp_path / f"b{suffix}", moving_bar(40), FPS, tmp_path / "a.webm", {})
        np.testing.assert_allclose(click_times(tmp_path / f"b{suffix}"), AT_S, atol=1e-3)


def test_kept_audio_stops_where_the_clip_stops(tmp_path):
    write_media(tmp_path / "a.wav", _audio("pcm_mulaw", 8000))
    write_media(tmp_path / "a.m4a", _audio("aac", 48_000))
    for name in ("a.wav", "a.m4a"):
        for suffix in SUFFIXES:
            clip = tmp_path / f"b{suffix}"
            write_clip_keeping_audio(clip, moving_bar(16), FPS, tmp_path / name, {}, stop_s=1.2)
            np.testing.assert_allclose(click_times(clip), AT_S[:2], atol=1e-3)
            assert len(read_audio(clip, 48_000)) / 48_000 == pytest.approx(1.2, abs=0.03)


def test_damaged_packet_of_kept_audio_loses_only_itself(tmp_path):
    write_media(tmp_path / "a.m4a", _audio("aac", 48_000))
    data = bytearray((tmp_path / "a.m4a").read_bytes())
    with av.open(str(tmp_path / "a.m4a")) as container:
        packet = [packet for packet in container.demux(audio=0) if packet.size][30]
    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "a.m4a").write_bytes(data)
    for suffix in SUFFIXES:
        write_clip_keeping_audio(tmp_path / f"b{suffix}", moving_bar(40), FPS, tmp_path / "a.m4a", {})
        np.testing.assert_allclose(click_times(tmp_path / f"b{suffix}"), AT_S, atol=1e-3)


def test_frame_rate_of_a_fraction_keeps_sound_on_time(tmp_path):
    write_media(tmp_path / "a.wav", _audio("pcm_s24le", 44_100))
    for suffix in SUFFIXES:
        clip = tmp_path / f"b{suffix}"
        write_clip_keeping_audio(clip, moving_bar(60), Fraction(30_000, 1001), tmp_path / "a.wav", {})
        np.testing.assert_allclose(click_times(clip), AT_S, atol=1e-3)
