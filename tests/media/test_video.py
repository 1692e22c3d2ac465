from fractions import Fraction

import av
import numpy as np
import pytest

from uniavgen.errors import MediaError
from uniavgen.media.audio import write_wav
from uniavgen.media.mux import write_clip
from uniavgen.media.reader import open_media
from uniavgen.media.video import count_frames, read_video

from .builders import FPS, RATE_HZ, flash_and_click, moving_bar, tone


def store(path, frames: np.ndarray, fps, rotation: int = 0, aspect: Fraction | None = None) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for pixels in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))


@pytest.mark.parametrize("fps", [FPS, Fraction(25), Fraction(30000, 1001)])
def test_flash_and_click_stay_together(tmp_path, fps):
    num_frames = round(4 * fps)
    frames, waveform = flash_and_click(num_frames, 2.0, fps)
    write_clip(tmp_path / "a.mp4", frames, fps, waveform, RATE_HZ, {})
    video = read_video(tmp_path / "a.mp4", fps, rate_hz=RATE_HZ)
    assert video.frames.shape == frames.shape
    assert len(video.waveform) == pytest.approx(len(waveform), abs=1)
    flash_s = int(video.frames.mean((1, 2, 3)).argmax()) / fps
    click_s = int(np.abs(video.waveform).argmax()) / RATE_HZ
    assert abs(float(flash_s) - 2.0) <= 0.5 / float(fps)
    assert abs(click_s - 2.0) <= 0.002


def test_frames_survive_a_round_trip(tmp_path):
    frames = moving_bar(21)
    write_clip(tmp_path / "a.mp4", frames, FPS, tone(21 / 16), RATE_HZ, {})
    video = read_video(tmp_path / "a.mp4", FPS)
    assert video.waveform is None
    assert [int(f.sum((0, 2)).argmax()) for f in video.frames] == list(range(21))


@pytest.mark.parametrize("fps", [Fraction(8), Fraction(25), Fraction(30), Fraction(60)])
def test_resampled_frames_are_those_shown_at_their_time(tmp_path, fps):
    frames = moving_bar(round(2 * fps), width=128)
    store(tmp_path / "a.mp4", frames, fps)
    video = read_video(tmp_path / "a.mp4", FPS)
    assert len(video.frames) == 32
    want = [int((k + Fraction(1, 2)) / FPS * fps) for k in range(32)]
    assert [int(f.sum((0, 2)).argmax()) for f in video.frames] == want


def test_excerpt_equals_the_same_part_of_the_whole_video(tmp_path):
    frames, waveform = moving_bar(61), tone(61 / 16)
    write_clip(tmp_path / "a.mp4", frames, FPS, waveform, RATE_HZ, {})
    whole = read_video(tmp_path / "a.mp4", FPS, rate_hz=RATE_HZ)
    part = read_video(tmp_path / "a.mp4", FPS, start_frame=40, max_frames=21, rate_hz=RATE_HZ)
    np.testing.assert_array_equal(part.frames, whole.frames[40:])
    np.testing.assert_array_equal(part.waveform, whole.waveform[60_000:])
    with open_media(tmp_path / "a.mp4") as reader:
        assert count_frames(reader, FPS) == 61


def test_phone_videos_are_turned_upright(tmp_path):
    upright = np.full((5, 64, 32, 3), 30, np.uint8)
    upright[:, :16] = 220
    store(tmp_path / "a.mp4", np.ascontiguousarray(np.rot90(upright, 1, (1, 2))), 16, rotation=-90)
    got = read_video(tmp_path / "a.mp4", FPS).frames
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < 4


def test_oblong_pixels_become_square(tmp_path):
    store(tmp_path / "a.mp4", moving_bar(3), 16, aspect=Fraction(4, 3))
    assert read_video(tmp_path / "a.mp4", FPS).frames.shape == (3, 32, 64, 3)


def test_large_frames_are_scaled_down(tmp_path):
    store(tmp_path / "a.mp4", moving_bar(3, 64, 96), 16)
    assert read_video(tmp_path / "a.mp4", FPS, short_side_px=32).frames.shape == (3, 32, 48, 3)


def test_video_that_is_too_long_is_refused_or_trimmed(tmp_path):
    store(tmp_path / "a.mp4", moving_bar(40), 16)
    with pytest.raises(MediaError, match=r"lasts 2\.50 s"):
        read_video(tmp_path / "a.mp4", FPS, max_frames=21)
    assert len(read_video(tmp_path / "a.mp4", FPS, max_frames=21, trim=True).frames) == 21
    assert len(read_video(tmp_path / "a.mp4", FPS, max_frames=40).frames) == 40


def test_truncated_video_is_read_as_far_as_it_goes(tmp_path, rng, caplog):
    path = tmp_path / "a.mp4"
    frames = rng.integers(0, 256, (41, 64, 64, 3), np.uint8)
    write_clip(path, frames, FPS, tone(41 / 16), RATE_HZ, {})
    whole = read_video(path, FPS).frames
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = read_video(path, FPS).frames
    assert 12 < len(part) < 30
    np.testing.assert_array_equal(part[:10], whole[:10])
    assert any("incomplete" in text for text in caplog.messages)


def test_file_without_video_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("A letter, not a film.\n" * 200)
    (tmp_path / "a.mp4").write_text("A letter, not a film.\n" * 200)
    write_wav(tmp_path / "a.wav", tone(1.0), RATE_HZ)
    for name in ("a.txt", "a.mp4", "a.wav"):
        with pytest.raises(MediaError, match=r"no picture track|neither|no sound or video"):
            read_video(tmp_path / name, FPS)
