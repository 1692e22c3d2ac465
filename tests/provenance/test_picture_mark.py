"""The mark in pictures: found where it is, after encoding, scaling, cutting and mirroring, and not where it is not."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from uniavgen.provenance.picture_mark import mark_frames, match_picture, mean_luma

SIZE = (128, 160)
"""Height and width."""


def drawn_frames(count: int = 12, seed: int = 0) -> np.ndarray:
    """Returns a moving face-like drawing over a textured ground."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    ground = Image.fromarray(rng.integers(60, 200, (8, 10, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    frames = []
    for number in range(count):
        image = ground.copy()
        draw = ImageDraw.Draw(image)
        x = width // 2 + number
        draw.ellipse((x - 35, 20, x + 35, 115), fill=(220, 180, 150))
        draw.ellipse((x - 20, 50, x - 10, 56), fill=(40, 40, 60))
        draw.ellipse((x + 10, 50, x + 20, 56), fill=(40, 40, 60))
        draw.ellipse((x - 12, 85, x + 12, 88 + 2 * (number % 4)), fill=(150, 60, 60))
        grain = rng.normal(0, 3, (height, width, 3))
        frames.append(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
    return np.stack(frames)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return drawn_frames()


@pytest.fixture(scope="module")
def marked(frames: np.ndarray) -> np.ndarray:
    return mark_frames(frames)


def encoded(frames: np.ndarray, crf: int) -> np.ndarray:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(16), options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(io.BytesIO(content.getvalue())) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def scaled(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(each).resize((width, height), Image.BICUBIC)) for each in frames])


def found(frames: np.ndarray, scale: float | None = 1.0) -> bool:
    return match_picture(mean_luma(frames), scale).is_found


def test_picture_mark_is_found_only_where_it_is(frames, marked):
    assert found(marked)
    assert not found(frames)
    assert not found(frames, None)


def test_picture_mark_is_about_one_grey_level(frames, marked):
    difference = np.abs(marked.astype(int) - frames)
    assert 0.5 < difference.mean() < 2
    assert difference.max() <= 10


@pytest.mark.parametrize("crf", [18, 23, 28])
def test_picture_mark_survives_encoding_twice(marked, crf):
    assert found(encoded(encoded(marked, 17), crf))


@pytest.mark.parametrize("size", [(120, 96), (240, 192), (320, 256)])
def test_picture_mark_survives_scaling(marked, size):
    match = match_picture(mean_luma(encoded(scaled(encoded(marked, 17), *size), 20)), None)
    assert match.is_found
    assert match.scale == pytest.approx(size[0] / SIZE[1], rel=0.01)


def test_picture_mark_survives_cropping_and_mirroring(marked):
    assert found(marked[:, 11:121, 23:153])
    assert found(marked[:, :, ::-1])


def test_picture_mark_leaves_given_frames(frames):
    marked = mark_frames(frames, 5)
    assert np.array_equal(marked[:5], frames[:5])
    assert not found(marked[:5])
    assert found(marked[5:])


def test_picture_mark_is_the_same_on_every_run(frames, marked):
    assert np.array_equal(mark_frames(frames), marked)


def test_picture_mark_takes_every_size():
    for height, width in ((2, 4), (31, 200), (64, 64)):
        frames = np.full((2, height, width, 3), 128, np.uint8)
        assert mark_frames(frames).shape == frames.shape
        match_picture(mean_luma(frames), None)
