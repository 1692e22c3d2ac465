"""A film that is dubbed shows its pictures as by itself, whatever it was and whatever holds it."""

from pathlib import Path

import av
import numpy as np
import pytest

from uniavgen.errors import MediaError
from uniavgen.media.mux import write_clip_keeping_video

from .builders import RATE_HZ, add_audio, add_video, click_times, clicks, quadrants, write_media

SUFFIXES = (".mp4", ".mov", ".mkv")
FRAME_S = 1 / 16
ONE = 1 << 16
LAST = 1 << 30
MATRICES = {
    "turned left": (0, -ONE, 0, ONE, 0, 0, 0, 0, LAST),
    "turned right": (0, ONE, 0, -ONE, 0, 0, 0, 0, LAST),
    "upside down": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST),
    "mirrored": (-ONE, 0, 0, 0, ONE, 0, 0, 0, LAST),
    "flipped": (ONE, 0, 0, 0, -ONE, 0, 0, 0, LAST),
    "transposed": (0, ONE, 0, ONE, 0, 0, 0, 0, LAST),
    "transversed": (0, -ONE, 0, -ONE, 0, 0, 0, 0, LAST),
}
IRREGULAR_S = tuple(np.cumsum([0.0, *([0.02, 0.05, 0.1, 0.11, 0.03] * 6)])[:24])


def _video(num_frames: int = 24, **arguments):
    return lambda out: add_video(out, quadrants(num_frames), **arguments)


def _sound(times=lambda time_s: time_s, codec: str = "aac"):
    return lambda out: add_audio(out, clicks(1.5, (0.2, 1.0), 48_000), 48_000, codec, times=times)


def _late(time_s: float) -> float:
    return time_s + 0.4


def _early(time_s: float) -> float:
    return time_s - 0.3


SOURCES = {
    "H.264": ("a.mp4", [_video(), _sound()]),
    "no sound": ("a.mov", [_video()]),
    "late pictures": ("a.mp4", [_video(times=_late), _sound()]),
    "late pictures alone": ("a.mkv", [_video(times=_late)]),
    "late sound": ("a.mkv", [_video(), _sound(_late, "libopus")]),
    "hidden beginning": ("a.mp4", [_video(times=_early), _sound(_early)]),
    "variable rate": ("a.mp4", [_video(frame_times_s=IRREGULAR_S), _sound()]),
    "variable rate in MKV": ("a.mkv", [_video(frame_times_s=IRREGULAR_S)]),
    "MPEG-TS": ("a.ts", [_video(), _sound()]),
    "AVI with B-frames": ("a.avi", [_video(codec="mpeg4", bf="2")]),
    "MJPEG": ("a.mov", [_video(codec="mjpeg", pix_fmt="yuvj422p")]),
    "HEVC of ten bits": ("a.mp4", [_video(codec="libx265", pix_fmt="yuv420p10le")]),
    "H.264 of ten bits": ("a.mkv", [_video(pix_fmt="yuv422p10le")]),
    "VP9": ("a.webm", [_video(codec="libvpx-vp9"), _sound(codec="libopus")]),
    "ProRes": ("a.mov", [_video(codec="prores_ks", pix_fmt="yuv422p10le")]),
    "FLV that begins late": (
        "a.flv",
        [_video(codec="flv1"), lambda out: add_audio(out, clicks(1.5, (0.2,), 44_100), 44_100, "libmp3lame")],
    ),
    "raw pixels": ("a.avi", [_video(codec="rawvideo")]),
    "raw pixels of variable rate": ("a.mkv", [_video(codec="rawvideo", frame_times_s=IRREGULAR_S)]),
    "PNG of variable rate": ("a.mov", [_video(codec="png", pix_fmt="rgb24", frame_times_s=IRREGULAR_S)]),
    "FLV of variable rate": ("a.flv", [_video(codec="flv1", frame_times_s=IRREGULAR_S)]),
    "FFV1": ("a.mkv", [_video(codec="ffv1", pix_fmt="yuv420p")]),
    **{name: ("a.mov", [_video(display_matrix=matrix), _sound()]) for name, matrix in MATRICES.items()},
}


def shown(path: Path, origin_s: float | None = None) -> list[tuple[float, np.ndarray]]:
    """Returns when frames are shown, 0 where the file's first track begins, and their upright pixels, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        starts = [(track.start_time or 0) * track.time_base for track in container.streams if track.type != "data"]
        frames = []
        for frame in container.decode(stream):
            pixels = frame.to_ndarray(format="rgb24")
            matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
            if matrix is not None:
                a, b, _, c, d = np.frombuffer(bytes(matrix)[:20], np.int32)
                pixels = _turned(pixels, np.sign([[a, c], [b, d]]))
            frames.append((frame.pts * frame.time_base if frame.pts is not None else None, pixels))
    first = min(starts) if len(starts) > 1 or container.format.name[:3] not in ("mov", "mat") else 0
    return [(float(time_s - (first if origin_s is None else origin_s)), pixels) for time_s, pixels in frames]


def _turned(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Moves every pixel where the matrix says."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[:height, :width]
    new_x, new_y = np.tensordot(matrix, [x, y], axes=1)
    turned = np.empty((np.ptp(new_y) + 1, np.ptp(new_x) + 1, 3), np.uint8)
    turned[new_y - new_y.min(), new_x - new_x.min()] = pixels
    return turned


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", SOURCES)
def test_kept_pictures_are_shown_as_in_their_source(tmp_path, case, suffix):
    name, tracks = SOURCES[case]
    source, clip = tmp_path / name, tmp_path / f"clip{suffix}"
    write_media(source, *tracks)
    try:
        write_clip_keeping_video(clip, source, clicks(1.5, (0.5,)), RATE_HZ, {})
    except MediaError as error:
        # The packets fit another container, which the sentence names.
        other = next(ending for ending in SUFFIXES if ending in str(error).split("choose")[1])
        write_clip_keeping_video(tmp_path / f"other{other}", source, clicks(1.5, (0.5,)), RATE_HZ, {})
        return
    expected = [(time_s, pixels) for time_s, pixels in shown(source) if time_s >= -0.001]
    stored = shown(clip, origin_s=0)
    assert len(stored) == len(expected)
    np.testing.assert_allclose([s for s, _ in stored], [s for s, _ in expected], atol=1e-3)
    for (_, now), (_, was) in zip(stored, expected, strict=True):
        assert now.shape == was.shape
        assert np.abs(now.astype(int) - was).mean() < 4
    np.testing.assert_allclose(click_times(clip), [0.5], atol=1e-3)
