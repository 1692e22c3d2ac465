"""Measurements on disk: nothing is lost, nothing is measured twice."""

import random

import numpy as np
import pytest

from uniavgen.errors import DataError, OutputError
from uniavgen.evaluation.metric import Measurement
from uniavgen.evaluation.store import Failure, ScoreStore, metric_digest

from .builders import Loudness

FOUND = Measurement(scores={"a": 0.1}, reasons={"b": "why"}, details={"curve": [1.0, 2.0]})


def test_saved_measurements_are_loaded_in_a_later_run(tmp_path):
    store = ScoreStore(tmp_path)
    store.save("one", FOUND)
    store.save("two", Failure(reason="silent"))
    for each in (store, ScoreStore(tmp_path)):
        assert each.load("one") == FOUND
        assert each.load("two") == Failure(reason="silent")
        assert each.load("three") is None


def test_line_that_a_crash_cut_off_is_dropped_and_the_next_is_whole(tmp_path):
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


def test_metric_digest_depends_on_the_weights():
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


def test_damaged_lines_and_arrays_are_measured_again(tmp_path):
    measurement = Measurement(scores={"a": 0.25}, reasons={}, details={"curve": [1.0]}, arrays={"x": np.arange(50.0)})
    ScoreStore(tmp_path).save("one", measurement)
    path, rng = tmp_path / "scores.jsonl", random.Random(0)
    (arrays,) = (tmp_path / "arrays").iterdir()
    for file in (path, arrays):
        content = file.read_bytes()
        for _ in range(300):
            damaged = bytearray(content)
            damaged[rng.randrange(len(damaged) - 1)] = rng.randrange(256)
            file.write_bytes(damaged)
            stored = ScoreStore(tmp_path).load("one")
            assert stored is None or (isinstance(stored, Measurement) and stored.scores == {"a": 0.25})
        file.write_bytes(content)


@pytest.mark.parametrize(
    "line",
    [b"[" * 50_000, b"\xff", b"5", b'{"key": "one"}', b'{"key": [1], "failure": "x"}', b'{"key": "one", "scores": 1}'],
)
def test_lines_of_another_kind_are_ignored(line, tmp_path):
    (tmp_path / "scores.jsonl").write_bytes(line + b"\n")
    store = ScoreStore(tmp_path)
    assert store.load("one") is None
    store.save("one", FOUND)
    assert ScoreStore(tmp_path).load("one") == FOUND


def test_store_refuses_paths_that_are_no_folder_or_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file is not a folder"):
        ScoreStore(tmp_path / "file")
    (tmp_path / "folder" / "scores.jsonl").mkdir(parents=True)
    with pytest.raises((DataError, OutputError), match=r"scores\.jsonl"):
        ScoreStore(tmp_path / "folder")


def test_store_makes_nothing_before_there_is_a_measurement(tmp_path):
    store = ScoreStore(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []
    store.save("one", FOUND)
    assert ScoreStore(tmp_path / "report").load("one") == FOUND
