"""Frames one after another: the same as when a video is read whole, and HDR as a screen without it shows it."""

import gc
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from tests.media.builders import add_video, moving_bar, write_media

from uniavgen.media.frame_stream import sample_frames, stream_frames
from uniavgen.media.reader import open_media
from uniavgen.media.video import read_video


@pytest.fixture
def long_video(tmp_path):
    """40 s with a key frame every 2 s."""
    write_media(tmp_path / "a.mp4", lambda out: add_video(out, moving_bar(400), Fraction(10), g="20"))
    return tmp_path / "a.mp4"


def test_streamed_frames_are_those_of_the_file(long_video):
    with open_media(long_video) as reader:
        frames = list(stream_frames(reader))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(400) / 10)
    np.testing.assert_array_equal(
        np.stack([frame.pixels for frame in frames]), read_video(long_video, Fraction(10)).frames
    )


def test_streamed_frames_come_no_faster_than_asked(long_video):
    with open_media(long_video) as reader:
        times = [frame.time_s for frame in stream_frames(reader, max_fps=5.0)]
    np.testing.assert_allclose(times, np.arange(200) / 5)


@pytest.mark.parametrize(
    "times", [[0.0, 0.05, 0.1, 0.1], [3.33, 17.0, 17.49, 38.95], [39.99], [25.0, 39.0, 41.0, 60.0], []]
)
def test_sampled_frames_are_what_is_shown_then_with_and_without_seeking(long_video, times):
    frames = read_video(long_video, Fraction(10)).frames
    with open_media(long_video) as reader:
        found = list(sample_frames(reader, times))
    shown = [int(time_s * 10 + 1e-9) for time_s in times if time_s < 40]
    np.testing.assert_allclose([frame.time_s for frame in found], np.array(shown) / 10)
    for frame, index in zip(found, shown, strict=True):
        np.testing.assert_array_equal(frame.pixels, frames[index])


def test_a_video_that_begins_late_shows_its_first_frame_before(tmp_path):
    write_media(
        tmp_path / "a.mkv", lambda out: add_video(out, moving_bar(10), Fraction(10), times=lambda time_s: time_s + 0.5)
    )
    with open_media(tmp_path / "a.mkv") as reader:
        times = [frame.time_s for frame in sample_frames(reader, [0.0, 0.2, 0.55, 0.75])]
    np.testing.assert_allclose(times, [0.5, 0.5, 0.5, 0.7], atol=1e-3)


def hdr_video(path, signal: float, transfer: int) -> None:
    """Grey frames of 10 bits whose signal is a share of full range."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx265", rate=10, options={"x265-params": "log-level=none:lossless=1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for _ in range(3):
            frame = av.VideoFrame(64, 64, "yuv420p10le")
            for plane, value in zip(frame.planes, (64 + signal * 876, 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(value), np.uint16).tobytes())
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def test_frames_are_freed_one_by_one(long_video):
    """Not only when Python looks for circles of references."""
    gc.collect()
    gc.disable()
    try:
        with open_media(long_video) as reader:
            frames = stream_frames(reader)
            counts = []
            for _ in range(2):
                list(islice(frames, 40))
                counts.append(sum(type(thing) is av.VideoFrame for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert counts[1] <= counts[0] + 5


@pytest.mark.parametrize(
    ("transfer", "signal", "nits"),
    # Signals of known light: ST 2084's table, and BT.2408's for HLG's reference white of 75 %.
    [(16, 0.58, 203), (16, 0.508, 100), (16, 0.751827, 1000), (18, 0.75, 203), (16, 0.0, 0), (18, 0.0, 0)],
)
def test_hdr_is_tone_mapped(tmp_path, transfer, signal, nits):
    hdr_video(tmp_path / "a.mp4", signal, transfer)
    pixels = read_video(tmp_path / "a.mp4", Fraction(10)).frames[0]
    light = nits / 203
    if light > 0.75:
        light = 0.75 + 0.25 * (1 - np.exp(-(light - 0.75) / 0.25))
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055) if light else 0
    assert abs(pixels.astype(float) - expected).max() <= 3


def test_ordinary_video_is_not_tone_mapped(tmp_path):
    frames = np.full((3, 64, 64, 3), 180, np.uint8)
    write_media(tmp_path / "a.mp4", lambda out: add_video(out, frames))
    assert abs(read_video(tmp_path / "a.mp4", Fraction(16)).frames.astype(int) - 180).max() <= 2
