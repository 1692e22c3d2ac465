"""Where a face is, by what is marked, and squares that follow it."""

import numpy as np
import pytest

from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_locator import FaceLocator
from uniavgen.perception.face_track import FaceTrack


def discs(*centres: tuple[float, float], radius: float = 8, frames: int = 10) -> np.ndarray:
    """The same discs in every frame of 48 x 64 cells."""
    rows, columns = np.mgrid[:48, :64] + 0.5
    spots = [np.hypot(columns - x, rows - y) < radius for x, y in centres]
    return np.repeat(np.any(spots, axis=0)[None].astype(np.float32), frames, axis=0)


def test_face_locator_gives_middle_and_size_of_a_disc():
    path = FaceTrack.from_probabilities(discs((40, 20)), 16.0)
    np.testing.assert_allclose(path.centres * 48, np.tile([40, 20], (10, 1)), atol=0.05)
    np.testing.assert_allclose(path.sizes * 48, 16, rtol=0.02)


def test_frame_without_a_face_is_bridged():
    marks = discs((20, 20))
    marks[4] = 0
    assert FaceTrack.from_probabilities(marks, 16.0).centres[4] * 48 == pytest.approx([20, 20], abs=0.1)


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (np.zeros((4, 48, 64), np.float32), "no face is seen"),
        (discs((16, 20), (48, 20)), "several faces"),
        (np.concatenate([discs((20, 20), frames=2), np.zeros((8, 48, 64), np.float32)]), "20% of the frames only"),
    ],
)
def test_face_locator_gives_a_reason_for_no_and_for_several_faces(marks, reason):
    with pytest.raises(NotMeasured, match=reason):
        FaceTrack.from_probabilities(marks, 16.0)


def test_face_locator_ignores_a_small_face_in_the_background():
    marks = np.maximum(discs((20, 24)), discs((52, 24), radius=2))
    assert FaceTrack.from_probabilities(marks, 16.0).centres[0] * 48 == pytest.approx([20, 24], abs=0.1)


@pytest.mark.parametrize("scale", [1, 3])
def test_face_crops_are_the_same_at_any_frame_size(scale):
    small = np.zeros((2, 48, 64, 3), np.uint8)
    small[:, 16:24, 36:44] = 255
    frames = small.repeat(scale, axis=1).repeat(scale, axis=2)
    path = FaceTrack(centres=np.full((2, 2), [40 / 48, 20 / 48]), sizes=np.full(2, 16 / 48))
    squares = path.crops(frames, 32, 1.0)
    assert squares.shape == (2, 32, 32, 3)
    assert squares[:, 10:22, 10:22].min() == 255
    assert squares[:, :6].max() == squares[:, :, 26:].max() == 0
    below = path.crops(frames, 32, 1.0, below=0.5)
    assert below[:, :6, 10:22].min() == 255
    assert below[:, 12:].max() == 0


def test_face_crops_beyond_the_frame_are_black():
    path = FaceTrack(centres=np.zeros((1, 2)), sizes=np.ones(1))
    square = path.crops(np.full((1, 40, 40, 3), 200, np.uint8), 20, 1.0)
    assert square[0, 12:, 12:].min() == 200
    assert square[0, :8].max() == 0


def test_heatmap_covers_the_frame_of_any_shape():
    marks = FaceLocator().eval().predict(np.zeros((3, 50, 90, 3), np.uint8))
    assert marks.shape == (3, 24, 44)
    assert 0 <= marks.min() <= marks.max() <= 1
