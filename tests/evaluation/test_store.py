"""Measurements on disk: nothing is lost, nothing is measured twice."""

import numpy as np

from uniavgen.evaluation.metric import Measurement
from uniavgen.evaluation.store import Failure, ScoreStore, metric_digest

from .builders import Loudness

FOUND = Measurement(scores={"a": 0.1}, reasons={"b": "why"}, details={"curve": [1.0, 2.0]})


def test_what_was_saved_comes_back_in_a_later_run(tmp_path):
    store = ScoreStore(tmp_path)
    store.save("one", FOUND)
    store.save("two", Failure(reason="silent"))
    for each in (store, ScoreStore(tmp_path)):
        assert each.load("one") == FOUND
        assert each.load("two") == Failure(reason="silent")
        assert each.load("three") is None


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_next_is_whole(tmp_path):
    store = ScoreStore(tmp_path)
    store.save("one", FOUND)
    store.save("two", FOUND)
    path = tmp_path / "scores.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    later = ScoreStore(tmp_path)
    assert later.load("one") == FOUND
    assert later.load("two") is None
    later.save("two", FOUND)
    assert ScoreStore(tmp_path).load("two") == FOUND


def test_other_weights_are_another_measurement():
    metric = Loudness()
    assert (
        metric_digest(metric, {"net": "1"})
        == metric_digest(metric, {"net": "1"})
        != metric_digest(metric, {"net": "2"})
    )


def test_arrays_lie_beside_the_scores_and_a_lost_file_is_measured_again(tmp_path):
    features = np.arange(6, dtype=np.float16).reshape(2, 3)
    ScoreStore(tmp_path).save("one", Measurement(scores={"a": 1.0}, arrays={"fid/true": features}))
    stored = ScoreStore(tmp_path).load("one")
    assert isinstance(stored, Measurement)
    np.testing.assert_array_equal(stored.arrays["fid/true"], features)
    assert "fid" not in (tmp_path / "scores.jsonl").read_text()
    for file in (tmp_path / "arrays").iterdir():
        file.unlink()
    assert ScoreStore(tmp_path).load("one") is None
