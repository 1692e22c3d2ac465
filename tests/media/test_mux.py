import subprocess
import sys
import textwrap
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
import pytest

from uniavgen.artifacts import check_writable
from uniavgen.errors import MediaError, OutputError
from uniavgen.media.audio import read_audio, write_wav
from uniavgen.media.mux import (
    AudioTransfer,
    read_metadata,
    write_clip,
    write_clip_keeping_audio,
    write_clip_keeping_video,
)
from uniavgen.media.probe import probe
from uniavgen.media.video import read_video

from .builders import FPS, RATE_HZ, moving_bar, tone
from .test_audio import store as store_audio
from .test_video import store as store_video

SETTINGS = {"seed": 3, "speech": 'Grüße, "you"!\n', "guidance": {"video": 3.0}, "x": None}


def packets(path, kind: str) -> list[tuple[bytes, float]]:
    with av.open(str(path)) as container:
        return [(bytes(p), float(p.pts * p.time_base)) for p in container.demux(**{kind: 0}) if p.size]


def samples(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=-1)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_settings_are_read_back_from_the_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_clip(path, moving_bar(5), FPS, tone(5 / 16), RATE_HZ, SETTINGS)
    assert read_metadata(path) == SETTINGS
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


def test_file_of_another_program_has_no_settings(tmp_path):
    store_video(tmp_path / "a.mp4", moving_bar(3), 16)
    assert read_metadata(tmp_path / "a.mp4") is None


def test_mp4_layout_is_playable_by_browsers(tmp_path):
    path = tmp_path / "a.mp4"
    write_clip(path, moving_bar(9), FPS, tone(9 / 16), RATE_HZ, {})
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    info = probe(path)
    assert (info.video.codec, info.video.fps, info.audio.codec) == ("h264", FPS, "aac")
    assert (info.audio.rate_hz, info.audio.channels) == (RATE_HZ, 1)
    assert info.video.duration_s == info.audio.duration_s == 9 / 16
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"


def test_colours_survive(tmp_path):
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    for frame, colour in zip(
        frames, [(200, 30, 60), (20, 180, 40), (30, 40, 210), (240, 240, 240), (9, 9, 9)], strict=True
    ):
        frame[:] = colour
    write_clip(tmp_path / "a.mp4", frames, FPS, tone(5 / 16), RATE_HZ, {})
    got = read_video(tmp_path / "a.mp4", FPS).frames
    assert np.abs(got.astype(int) - frames).max() <= 6


def test_written_file_is_the_same_for_the_same_frames(tmp_path, rng):
    # 160 x 96 pixels, see `REPEATABLE`.
    frames = np.repeat(np.repeat(rng.integers(0, 256, (17, 12, 20, 3), dtype=np.uint8), 8, axis=1), 8, axis=2)
    files = set()
    for number in range(5):
        memory = [rng.bytes(int(size)) for size in rng.integers(100, 200_000, 200)]
        del memory
        write_clip(tmp_path / f"{number}.mp4", frames, FPS, tone(1.0), RATE_HZ, {})
        files.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(files) == 1


def test_frames_of_odd_sides_are_refused(tmp_path):
    with pytest.raises(MediaError, match="must be even"):
        write_clip(tmp_path / "a.mp4", moving_bar(3, 31, 48), FPS, tone(0.2), RATE_HZ, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")])
def test_dubbing_copies_the_video_packets(tmp_path, name, codec):
    source = tmp_path / name
    with av.open(str(source), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in moving_bar(30):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))
    voice = tone(1.2)
    write_clip_keeping_video(tmp_path / "out.mp4", source, voice, RATE_HZ, SETTINGS)
    if name == "a.mp4":
        assert packets(tmp_path / "out.mp4", "video") == packets(source, "video")
    else:
        assert [p for p, _ in packets(tmp_path / "out.mp4", "video")] == [p for p, _ in packets(source, "video")]
    before, after = read_video(source, FPS), read_video(tmp_path / "out.mp4", FPS)
    np.testing.assert_array_equal(after.frames, before.frames)
    assert len(read_audio(tmp_path / "out.mp4", RATE_HZ)) == len(voice)
    assert read_metadata(tmp_path / "out.mp4") == SETTINGS


def test_dubbing_preserves_rotation(tmp_path):
    store_video(tmp_path / "a.mp4", moving_bar(5), 16, rotation=-90)
    write_clip_keeping_video(tmp_path / "out.mp4", tmp_path / "a.mp4", tone(0.3), RATE_HZ, {})
    assert read_video(tmp_path / "out.mp4", FPS).frames.shape == (5, 48, 32, 3)


def test_dubbing_stops_at_the_given_duration(tmp_path):
    store_video(tmp_path / "a.mp4", moving_bar(48), 16)
    write_clip_keeping_video(tmp_path / "out.mp4", tmp_path / "a.mp4", tone(1.0), RATE_HZ, {}, stop_s=1.0)
    whole = read_video(tmp_path / "a.mp4", FPS).frames
    got = read_video(tmp_path / "out.mp4", FPS).frames
    assert 16 <= len(got) <= 19
    np.testing.assert_array_equal(got[:16], whole[:16])


def test_codec_that_mp4_cannot_hold_goes_into_mkv(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        stream = out.add_stream("libvpx", rate=16)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in moving_bar(8):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"vp8.*\.mkv"):
        write_clip_keeping_video(tmp_path / "out.mp4", tmp_path / "a.webm", tone(0.5), RATE_HZ, {})
    write_clip_keeping_video(tmp_path / "out.mkv", tmp_path / "a.webm", tone(0.5), RATE_HZ, {})
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.webm", "out.mkv"]


@pytest.mark.parametrize(
    ("name", "codec", "layout"),
    [
        ("a.m4a", "aac", "mono"),
        ("a.mp3", "libmp3lame", "stereo"),
        ("a.flac", "flac", "stereo"),
        ("a.ogg", "libopus", "mono"),
    ],
)
def test_animation_copies_the_audio_packets(tmp_path, name, codec, layout):
    store_audio(tmp_path / name, codec, tone(1.0, 48_000), 48_000, layout)
    transfer = write_clip_keeping_audio(tmp_path / "out.mp4", moving_bar(16), FPS, tmp_path / name, SETTINGS)
    assert transfer is AudioTransfer.COPIED
    assert [p for p, _ in packets(tmp_path / "out.mp4", "audio")] == [p for p, _ in packets(tmp_path / name, "audio")]
    assert read_metadata(tmp_path / "out.mp4") == {**SETTINGS, "kept_audio": "copied"}


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8", "pcm_s24le"])
def test_animation_preserves_the_samples_of_a_wav(tmp_path, codec, rng):
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        stream = out.add_stream(codec, rate=44_100, layout="stereo")
        noise = rng.integers(-(2**15), 2**15, (1, 2 * 44_100)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="stereo")
        frame.sample_rate = 44_100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    transfer = write_clip_keeping_audio(tmp_path / "out.mp4", moving_bar(16), FPS, tmp_path / "a.wav", {})
    assert transfer is AudioTransfer.LOSSLESS
    was, now = samples(tmp_path / "a.wav"), samples(tmp_path / "out.mp4")
    if codec == "pcm_u8":
        was = (was.astype(np.int16) - 128) * 256
    np.testing.assert_array_equal(now, was)


def test_animation_notes_that_float_samples_are_rounded(tmp_path):
    store_audio(tmp_path / "a.wav", "pcm_f32le", tone(0.5), RATE_HZ)
    transfer = write_clip_keeping_audio(tmp_path / "out.mp4", moving_bar(8), FPS, tmp_path / "a.wav", {})
    assert transfer is AudioTransfer.ROUNDED
    np.testing.assert_allclose(samples(tmp_path / "out.mp4")[0] / 2**31, samples(tmp_path / "a.wav")[0], atol=2**-23)


def test_animation_stops_at_the_given_duration(tmp_path):
    write_wav(tmp_path / "a.wav", tone(2.0), RATE_HZ)
    write_clip_keeping_audio(tmp_path / "out.mp4", moving_bar(16), FPS, tmp_path / "a.wav", {}, stop_s=1.0)
    assert samples(tmp_path / "out.mp4").shape[-1] == RATE_HZ


@pytest.mark.parametrize("seconds", [0.5, 1.0])
def test_sync_survives_a_copied_mp3(tmp_path, seconds):
    waveform = np.zeros(2 * 48_000, np.float32)
    waveform[round(seconds * 48_000) :][:200] = 0.9
    store_audio(tmp_path / "a.mp3", "libmp3lame", waveform, 48_000)
    write_clip_keeping_audio(tmp_path / "out.mp4", moving_bar(32), FPS, tmp_path / "a.mp3", {})
    got = read_video(tmp_path / "out.mp4", FPS, rate_hz=RATE_HZ).waveform
    assert np.abs(got).argmax() / RATE_HZ == pytest.approx(seconds + 100 / 48_000, abs=0.005)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    frames = moving_bar(5).astype(np.uint8)

    class Interrupting(Mapping):
        __getitem__ = __len__ = lambda self, key=None: 1

        def __iter__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clip(path, frames, FPS, tone(0.3), RATE_HZ, Interrupting())
    assert path.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a.mp4"]


def test_full_disk_leaves_nothing(tmp_path):
    script = """
        import resource, sys
        import numpy as np
        from fractions import Fraction
        from uniavgen.errors import OutputError
        from uniavgen.media.mux import write_clip
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)
        try:
            write_clip(sys.argv[1], frames, Fraction(16), np.zeros(9000, np.float32), 24_000, {})
        except OutputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.mp4")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_output_paths_are_checked_before_anything_is_written(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "in.mp4").write_text("x")
    for path, words in [
        (tmp_path / "a.avi", "must end in"),
        (tmp_path / "folder.mp4", "no regular file"),
        (tmp_path / "file" / "a.mp4", "not a folder"),
        (tmp_path / "in.mp4", "also an input"),
        (tmp_path / ("n" * 300 + ".mp4"), "at most 255 can be stored"),
    ]:
        with pytest.raises(OutputError, match=words):
            check_writable(path, (".mp4",), inputs=(tmp_path / "in.mp4",))
    check_writable(tmp_path / "new" / "deep" / "a.mp4", (".mp4",))
    assert not (tmp_path / "new").exists()


def test_fractional_frame_rate_is_written(tmp_path):
    fps = Fraction(30000, 1001)
    write_clip(tmp_path / "a.mp4", moving_bar(12), fps, tone(0.4), RATE_HZ, {})
    assert probe(tmp_path / "a.mp4").video.fps == fps
