"""Face mesh: geometry without networks, and the networks on a rendered or real face where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from evaluation.builders import plain_clip
from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.identity import FaceIdentity
from uniavgen.evaluation.metrics.mouth import MouthOpening
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.image import read_image
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import (
    _ANCHORS,
    CHIN,
    DETECTOR,
    FOREHEAD,
    LOWER_LIP,
    MESH,
    UPPER_LIP,
    FaceLandmarks,
    FaceMesh,
    _iou,
    _letterboxed,
    mouth_opening,
)
from uniavgen.perception.face_tracker import FaceTracker
from uniavgen.perception.weights import NETWORKS, ResolvedWeights

ASSETS = Path(os.environ.get("UNIAVGEN_ASSETS", "no-assets"))
PICTURE = Path(__file__).parents[2] / "examples" / "person.png"
PROMPT = Prompt(id="a")


def _track(visible: list[bool], num_faces: int = 1) -> FaceLandmarks:
    landmarks = np.zeros((len(visible), 468, 2))
    landmarks[:, CHIN, 1] = 100
    landmarks[:, LOWER_LIP, 1] = np.arange(len(visible))
    return FaceLandmarks(points=landmarks, visible=np.array(visible), num_faces=num_faces)


def test_mouth_opening_is_a_share_of_the_faces_height():
    track = _track([True] * 4)
    assert (UPPER_LIP, FOREHEAD) != (LOWER_LIP, CHIN)
    np.testing.assert_allclose(mouth_opening(track), [0, 0.01, 0.02, 0.03])
    np.testing.assert_array_equal(track.boxes[3], [0, 0, 0, 100])


@pytest.mark.parametrize(
    ("track", "words"),
    [
        (_track([False] * 5), "no face is seen"),
        (_track([True, True, False, True, False]), "a face is seen in 60% of the frames only"),
        (_track([True] * 5, num_faces=3), "3 faces are seen"),
    ],
)
def test_clip_with_no_or_several_faces_has_a_reason(track, words):
    with pytest.raises(NotMeasured, match=words):
        track.check()


def test_detector_has_896_candidates_two_or_six_a_place():
    assert _ANCHORS.shape == (896, 2)
    np.testing.assert_allclose(_ANCHORS[:4], [[1 / 32, 1 / 32]] * 2 + [[3 / 32, 1 / 32]] * 2)
    np.testing.assert_allclose(_ANCHORS[512:519], [[1 / 16, 1 / 16]] * 6 + [[3 / 16, 1 / 16]])


def test_box_overlap_is_intersection_over_union():
    assert _iou((0.0, 0.0, 2.0, 2.0), (1.0, 0.0, 3.0, 2.0)) == pytest.approx(1 / 3)
    assert _iou((0.0, 0.0, 1.0, 1.0), (2.0, 2.0, 3.0, 3.0)) == 0


def test_letterbox_round_trip_is_identity():
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra eval)")
    frame = np.full((50, 100, 3), 255, np.uint8)
    square, scale, offset = _letterboxed(frame, 200)
    assert square.shape == (200, 200, 3)
    assert (square[40].max(), square[100].min()) == (-1, 1)
    np.testing.assert_allclose((np.array([200, 150]) - offset) / scale, [100, 50])


def test_file_that_is_no_network_is_named(tmp_path):
    for package in ("cv2", "ai_edge_litert"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra eval)")
    (tmp_path / "text.tflite").write_text("this is no network at all, only some words")
    weights = ResolvedWeights(label="text", path=tmp_path / "text.tflite")
    with pytest.raises(CheckpointError, match="no TensorFlow Lite network"):
        FaceMesh({DETECTOR: weights, MESH: weights}).landmarks(plain_clip().frames)


@pytest.fixture
def weights() -> dict[str, ResolvedWeights]:
    paths = {name: ASSETS / NETWORKS[name].asset for name in (DETECTOR, MESH, "face-identity")}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        pytest.skip(f"no {missing[0]} in $UNIAVGEN_ASSETS")
    return {name: ResolvedWeights(label=name, path=path) for name, path in paths.items()}


def test_face_tracker_follows_a_face_when_the_frames_move(weights):
    picture = read_image(PICTURE)
    frames = np.stack([np.roll(picture, 4 * k, axis=1) for k in range(5)])
    clip = plain_clip(frames=frames)
    track = FaceTracker(weights).landmarks(clip.frames)
    moved = np.diff(track.points.mean(axis=(1))[:, 0])
    np.testing.assert_allclose(moved, 4, atol=1.0)
    assert 0.2 < track.heights[0] / len(picture) < 0.8
    scores = MouthOpening(MetricContext(faces=FaceTracker(weights))).measure(clip, PROMPT).scores
    assert scores["mouth_movement"] < 0.02
    same = FaceIdentity(MetricContext(weights=weights, faces=FaceTracker(weights)))
    prompt = Prompt(id="a", image=PICTURE)
    scores = same.measure(clip, prompt).scores
    assert scores["identity_consistency"] > 0.95
    assert scores["identity_reference"] > 0.95


def test_face_tracker_gives_a_reason_for_two_faces_and_for_none(weights):
    picture = read_image(PICTURE)
    both = np.concatenate([picture, picture], axis=1)
    with pytest.raises(NotMeasured, match="2 faces are seen"):
        FaceTracker(weights).landmarks(np.stack([both] * 5))
    with pytest.raises(NotMeasured, match="no face is seen"):
        FaceTracker(weights).landmarks(plain_clip().frames)
