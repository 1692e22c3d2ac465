"""Odd, damaged and lying files are read as far as they go, on one clock, with a note."""

import struct
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from uniavgen.errors import MediaError
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.mux import VideoTransfer, write_clip, write_clip_keeping_video
from uniavgen.media.probe import probe
from uniavgen.media.reader import open_media
from uniavgen.media.video import read_video, upright_pixels

from .builders import FPS, RATE_HZ, Pipe, add_audio, add_video, clicks, moving_bar, quadrants, tone, write_media


def _two_tracks(path: Path, default: int, codec: str = "aac") -> None:
    """Writes silence and a tone, one of which has the default flag."""
    with av.open(str(path), "w") as out:
        add = [add_audio(out, waveform, 48_000, codec) for waveform in (np.zeros(48_000, np.float32), tone(1, 48_000))]
        for index, stream in enumerate(out.streams.audio):
            stream.disposition = av.stream.Disposition.default if index == default else av.stream.Disposition(0)
        for mux in add:
            mux()


def onset_s(waveform: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    return int(np.argmax(np.abs(waveform) > 0.1)) / rate_hz


@pytest.mark.parametrize("default", [0, 1])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_track_with_the_default_flag_is_read_and_noted(tmp_path, caplog, name, default):
    _two_tracks(tmp_path / name, default)
    waveform = read_audio(tmp_path / name, RATE_HZ)
    assert (np.abs(waveform).max() > 0.3) == (default == 1)
    assert caplog.messages == [
        f"note: {tmp_path / name} has 2 sound tracks; number {default + 1} (aac), which has the default flag, is used"
    ]


def test_note_is_given_once_where_a_file_is_read_for_its_frames_and_then_copied(tmp_path, caplog):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        for mux in [add_video(out, moving_bar(8)), *(add_audio(out, tone(0.5), codec="aac") for _ in range(2))]:
            mux()
    read_video(tmp_path / "a.mp4", FPS)
    write_clip_keeping_video(tmp_path / "b.mkv", tmp_path / "a.mp4", tone(0.5), RATE_HZ, {})
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_wav_lengths_of_streaming_writers_are_read_to_the_end(tmp_path, caplog, length):
    write_wav(tmp_path / "a.wav", clicks(1.5, (0.5,)), RATE_HZ)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = struct.pack("<I", length)
    data[4:8] = struct.pack("<I", min(length + 36, 0xFFFFFFFF))
    (tmp_path / "a.wav").write_bytes(data)
    waveform = read_audio(tmp_path / "a.wav", RATE_HZ, max_s=2.0)
    assert len(waveform) == 1.5 * RATE_HZ
    assert onset_s(waveform) == pytest.approx(0.5, abs=1e-3)
    assert caplog.messages == []
    assert probe(tmp_path / "a.wav").audio.duration_s in (None, 1.5)


@pytest.mark.parametrize("format_name", ["webm", "matroska", "mp4", "flac", "ogg"])
def test_files_written_to_a_pipe_have_no_duration_and_are_read_to_the_end(tmp_path, format_name):
    pipe, options = Pipe(), {"movflags": "frag_keyframe+empty_moov"} if format_name == "mp4" else {}
    has_video = format_name in ("webm", "matroska", "mp4")
    with av.open(pipe, "w", format=format_name, options=options) as out:
        codec = {"mp4": "aac", "flac": "flac"}.get(format_name, "libopus")
        tracks = [add_audio(out, clicks(1.5, (0.5,), 48_000), 48_000, codec)]
        if has_video:
            codec, more = ("libvpx-vp9", {}) if format_name == "webm" else ("libx264", {"bf": "0"})
            tracks.append(add_video(out, moving_bar(24), codec=codec, **more))
        for mux in tracks:
            mux()
    (tmp_path / "a").write_bytes(bytes(pipe.content))
    waveform = read_audio(tmp_path / "a", RATE_HZ)
    assert len(waveform) / RATE_HZ == pytest.approx(1.5, abs=0.05)
    # A fragmented MP4 does not say how much of AAC's beginning is padding.
    assert onset_s(waveform) == pytest.approx(0.5, abs=0.025 if format_name == "mp4" else 2e-3)
    if has_video:
        assert len(read_video(tmp_path / "a", FPS, max_frames=24).frames) == 24


def test_matroska_track_that_ends_before_the_file_is_used(tmp_path, caplog):
    write_media(
        tmp_path / "a.mkv",
        lambda out: add_video(out, moving_bar(15)),
        lambda out: add_audio(out, clicks(1.5, (0.5,)), codec="pcm_s16le"),
    )
    video = read_video(tmp_path / "a.mkv", FPS, rate_hz=RATE_HZ)
    assert len(video.frames) == 15
    assert len(video.waveform) == 15 * RATE_HZ // 16
    assert len(read_audio(tmp_path / "a.mkv", RATE_HZ)) == 1.5 * RATE_HZ
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["a.mka", "a.ts", "a.m4a"])
def test_gap_in_time_stamps_is_silence(tmp_path, name):
    codec = "aac" if name in ("a.ts", "a.m4a") else "pcm_s16le"
    write_media(
        tmp_path / name,
        lambda out: add_audio(
            out, clicks(2.0, (0.2, 1.5), 48_000), 48_000, codec, times=lambda time_s: time_s + 0.14 * (time_s > 1)
        ),
    )
    waveform = read_audio(tmp_path / name, RATE_HZ)
    assert onset_s(waveform[RATE_HZ:]) == pytest.approx(0.64, abs=0.024 if name == "a.ts" else 1e-3)


def test_jitter_of_time_stamps_is_no_gap(tmp_path, rng):
    jitter = rng.uniform(-0.009, 0.009, 1000)
    write_media(
        tmp_path / "a.mkv",
        lambda out: add_audio(
            out, tone(2.0, 48_000), 48_000, times=lambda time_s: max(time_s + jitter[round(time_s * 50)], 0)
        ),
    )
    waveform = read_audio(tmp_path / "a.mkv", 48_000)
    assert len(waveform) == pytest.approx(2 * 48_000, abs=480)
    # A tone of 440 Hz has no larger steps.
    assert np.abs(np.diff(waveform[:95_000])).max() < 0.03


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.mp4", "mpeg4")])
def test_truncated_video_gives_its_whole_packets(tmp_path, rng, share, name, codec):
    path = tmp_path / name
    options = {"options": {"movflags": "+faststart"}} if name == "a.mp4" else {}
    noise = rng.integers(0, 256, (48, 32, 48, 3), np.uint8)
    write_media(path, lambda out: add_video(out, noise, codec=codec), **options)
    num_frames = len(read_video(path, FPS).frames)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert share * num_frames - 12 < len(read_video(path, FPS).frames) < share * num_frames + 3


def test_damaged_packets_of_a_film_lose_only_themselves(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    write_media(
        path,
        lambda out: add_video(out, quadrants(48), codec="mjpeg", pix_fmt="yuvj420p"),
        lambda out: add_audio(out, clicks(3.0, (0.5, 2.5)), codec="flac"),
    )
    data = bytearray(path.read_bytes())
    for kind in ("video", "audio"):
        with av.open(str(path)) as container:
            content = [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size][15]
        begin = data.index(content)
        data[begin : begin + len(content)] = b"\xa5" * len(content)
    path.write_bytes(data)
    video = read_video(path, FPS, rate_hz=RATE_HZ)
    assert len(video.frames) == 48
    assert onset_s(video.waveform[RATE_HZ:]) == pytest.approx(1.5, abs=1e-3)
    assert any("damaged packets of video (1)" in text for text in caplog.messages)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("png", "rgba"), ("qtrle", "argb")])
def test_transparent_pictures_are_read_over_white(tmp_path, codec, pix_fmt):
    frames = np.zeros((5, 32, 48, 4), np.uint8)
    frames[:, :, :24] = (200, 30, 60, 255)
    write_media(tmp_path / "a.mov", lambda out: add_video(out, frames, codec=codec, pix_fmt=pix_fmt))
    got = read_video(tmp_path / "a.mov", FPS).frames[2]
    np.testing.assert_allclose(got[16, 8], (200, 30, 60), atol=2)
    np.testing.assert_allclose(got[16, 40], 255, atol=1)


def test_palette_with_a_transparent_colour_is_read_over_white():
    # Palettes are stored as A R G B.
    palette = np.zeros((256, 4), np.uint8)
    palette[:2] = (255, 200, 30, 60), (0, 9, 9, 9)
    indices = np.zeros((32, 48), np.uint8)
    indices[:, 24:] = 1
    pixels = upright_pixels(av.VideoFrame.from_ndarray((indices, palette), format="pal8"), (48, 32))
    np.testing.assert_array_equal(pixels[16, 8], (200, 30, 60))
    np.testing.assert_array_equal(pixels[16, 40], (255, 255, 255))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_animated_picture_is_dubbed(tmp_path, suffix):
    # 51 pixels: H.264 needs even sides.
    write_media(
        tmp_path / "a.gif", lambda out: add_video(out, quadrants(20, 51, 64), Fraction(10), codec="gif", pix_fmt="gray")
    )
    transfer = write_clip_keeping_video(tmp_path / f"b{suffix}", tmp_path / "a.gif", tone(2.0), RATE_HZ, {})
    assert transfer is VideoTransfer.ENCODED
    before, after = read_video(tmp_path / "a.gif", FPS).frames, read_video(tmp_path / f"b{suffix}", FPS).frames
    assert after.shape == (32, 50, 64, 3)
    assert np.abs(after.astype(int) - before[:, :50]).mean() < 6


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_hevc_gets_the_tag_that_apple_plays(tmp_path, suffix):
    for number, name in enumerate(("a.mov", "a.mkv", "a.ts")):
        write_media(tmp_path / name, lambda out: add_video(out, quadrants(8), codec="libx265"))
        out = tmp_path / f"{number}{suffix}"
        assert write_clip_keeping_video(out, tmp_path / name, tone(0.5), RATE_HZ, {}) is VideoTransfer.COPIED
        with av.open(str(out)) as container:
            assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_name_of_eighty_chinese_characters_is_written(tmp_path):
    path = tmp_path / ("语" * 80 + ".mp4")
    write_clip(path, moving_bar(5), FPS, tone(0.3), RATE_HZ, {})
    assert len(read_video(path, FPS).frames) == 5
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a:b.wav", "100%d.wav", "pipe:0.wav", "日本.wav", "-i.wav"])
def test_file_names_are_no_protocols(tmp_path, name):
    write_wav(tmp_path / name, tone(0.5), RATE_HZ)
    assert len(read_audio(tmp_path / name, RATE_HZ)) == RATE_HZ // 2


def test_content_in_memory_is_read_as_a_file_is(tmp_path):
    write_clip(tmp_path / "a.mp4", moving_bar(9), FPS, tone(9 / 16), RATE_HZ, {})
    content = (tmp_path / "a.mp4").read_bytes()
    file, memory = (read_video(source, FPS, rate_hz=RATE_HZ) for source in (tmp_path / "a.mp4", content))
    np.testing.assert_array_equal(memory.frames, file.frames)
    np.testing.assert_array_equal(memory.waveform, file.waveform)
    with pytest.raises(MediaError, match="clip 3 holds neither"):
        read_video(content[:100], FPS, name="clip 3")


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.wav", "pcm_s16le", 48_000),
        ("a.m4a", "aac", 48_000),
        ("a.flac", "flac", 44_100),
        ("a.webm", "libopus", 48_000),
    ],
)
def test_seek_reads_the_frames_at_its_time(tmp_path, name, codec, rate_hz):
    write_media(tmp_path / name, lambda out: add_audio(out, clicks(60, (49.8, 50.2), rate_hz), rate_hz, codec))
    packets = []
    with open_media(tmp_path / name) as reader:
        reader.decode((reader.audio, _Recorder(packets)), from_s=Fraction(49))
    assert 45 < packets[0] <= 49
    waveform = read_audio(tmp_path / name, RATE_HZ, start_s=50.0, max_s=1.0, trim=True)
    # WebM rounds time stamps to milliseconds.
    assert onset_s(waveform) == pytest.approx(0.2, abs=2e-3 if name == "a.webm" else 1e-3)


class _Recorder:
    def __init__(self, times: list[float]) -> None:
        self.times, self.is_done = times, False

    def push(self, time_s, _frame) -> None:
        self.times.append(float(time_s))

    def finish(self) -> None: ...


@pytest.mark.slow
def test_long_video_is_read_in_linear_time(tmp_path):
    seconds = {}
    for minutes in (10, 20):
        write_wav(tmp_path / "a.wav", np.tile(tone(1.0, 8000), 60 * minutes), 8000)
        began = time.process_time()
        assert len(read_audio(tmp_path / "a.wav", 8000)) == minutes * 60 * 8000
        seconds[minutes] = time.process_time() - began
    assert seconds[20] / seconds[10] < 2.5


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.wav"])
def test_file_of_zeros_is_refused_however_long_it_is(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(MediaError, match="begins with nothing but zeros"), open_media(tmp_path / name):
        pass
