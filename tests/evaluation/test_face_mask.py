"""Predicted face mask against the truth on the token grid."""

import numpy as np
import pytest

from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.face_mask import FaceMaskIoU, intersection_over_union, truth_on_grid
from uniavgen.perception.errors import NotMeasured

from .builders import TIMING, clip_of, prompt_of, truth_clip


def test_iou_of_hand_counted_masks():
    truth = np.array([[[1, 1], [0, 0]]], bool)
    assert intersection_over_union(truth, truth) == 1
    assert intersection_over_union(~truth, truth) == 0
    assert intersection_over_union(np.array([[[1, 0], [1, 0]]], bool), truth) == pytest.approx(1 / 3)


def test_clip_without_a_face_is_not_measured():
    empty = np.zeros((1, 2, 2), bool)
    with pytest.raises(NotMeasured, match="no token"):
        intersection_over_union(~empty, empty)


def test_truth_is_the_share_of_each_token_over_its_frames():
    mask = truth_clip().truth.face_mask
    grid = truth_on_grid(mask, TIMING, 2, 4)
    assert grid.shape == (TIMING.num_latent_frames, 2, 4)
    np.testing.assert_allclose(grid, np.broadcast_to([[1, 1, 0, 0], [0, 0, 0, 0]], grid.shape))
    half = mask & (np.arange(TIMING.num_frames) % 2 == 0)[:, None, None]
    np.testing.assert_allclose(truth_on_grid(half, TIMING, 2, 2)[:, 0, 0], [1, 0.5, 0.5])


def test_metric_takes_the_grid_and_length_of_the_prediction(tmp_path):
    truth = truth_clip()
    prompt = prompt_of(truth, tmp_path)
    predicted = np.where(truth_on_grid(truth.truth.face_mask, TIMING, 2, 2) > 0, 0.9, 0.2).astype(np.float32)
    predicted[:, 1, 1] = 0.6
    metric = FaceMaskIoU(MetricContext())
    for mask in (predicted, predicted[:2]):
        result = metric.measure(clip_of(truth, face_mask=mask), prompt)
        assert result.scores["face_mask_iou"] == pytest.approx(1 / 2)
    with pytest.raises(NotMeasured, match="no predicted face mask"):
        metric.measure(clip_of(truth), prompt)
    with pytest.raises(NotMeasured, match="the truth has 9 frames, the predicted mask 13"):
        metric.measure(clip_of(truth, face_mask=np.concatenate([predicted, predicted[:1]])), prompt)
