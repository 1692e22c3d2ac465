"""The comparison of mouth opening with the rendered truth."""

import numpy as np
import pytest

from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.mouth import MouthOpening, correlation
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import CHIN, LOWER_LIP, FaceLandmarks
from uniavgen.perception.face_tracker import FaceTracker

from .builders import clip_of, prompt_of, truth_clip


class KnownMouth(FaceTracker):
    """Landmarks of a face of 100 px whose mouth opens by a known share of that."""

    def __init__(self, opening: np.ndarray) -> None:
        super().__init__()
        self._opening = opening

    def landmarks(self, frames: np.ndarray) -> FaceLandmarks:
        points = np.zeros((len(frames), 468, 2))
        points[:, CHIN, 1] = 100
        points[:, LOWER_LIP, 1] = 100 * self._opening
        return FaceLandmarks(points=points, visible=np.ones(len(frames), bool), num_faces=1)


def test_correlation_ignores_scale_and_offset_and_is_minus_one_for_the_opposite():
    curve = np.array([0.0, 1.0, 0.5, 0.2], np.float32)
    assert correlation(3 * curve + 2, curve) == pytest.approx(1)
    assert correlation(-curve, curve) == pytest.approx(-1)


def test_correlation_of_a_still_mouth_is_zero_and_a_still_truth_is_not_measured():
    still, moving = np.zeros(4, np.float32), np.array([0, 1, 0, 1], np.float32)
    assert correlation(still, moving) == 0
    with pytest.raises(NotMeasured, match="never moves"):
        correlation(moving, still)


def test_correlation_equals_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50)).astype(np.float32)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)


def test_mouth_metric_compares_the_mesh_with_the_truth_of_the_prompt(tmp_path):
    truth, other = truth_clip("a", 1), truth_clip("b", 2)
    opening = truth.truth.mouth_opening
    metric = MouthOpening(MetricContext(faces=KnownMouth(opening)))
    own = metric.measure(clip_of(truth), prompt_of(truth, tmp_path)).scores
    assert own["mouth_correlation_mesh"] == pytest.approx(1)
    assert own["mouth_movement"] == pytest.approx(np.ptp(np.quantile(opening, [0.05, 0.95])))
    against = metric.measure(clip_of(truth), prompt_of(other, tmp_path)).scores["mouth_correlation_mesh"]
    assert against == pytest.approx(correlation(opening, other.truth.mouth_opening))
    without = metric.measure(clip_of(truth), Prompt(id="a"))
    assert without.reasons == {"mouth_correlation_mesh": "the prompt has no truth"}
