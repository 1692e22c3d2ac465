"""Statistics and the report."""

import json

import pytest

from uniavgen.evaluation.metric import Unavailable
from uniavgen.evaluation.report import ClipScores, Report, SystemScores, score
from uniavgen.evaluation.statistics import estimate

from .builders import made_like, truth_clip


def _report() -> Report:
    ours = [ClipScores(id=str(i), scores={"sync": value}) for i, value in enumerate([0.5, 0.7, 0.9])]
    theirs = [ClipScores(id=str(i), scores={"sync": value}) for i, value in enumerate([0.4, 0.6, 0.8])]
    theirs.append(ClipScores(id="3", scores={}, not_measured={"sync": "silent"}))
    return Report(
        title="Trial",
        protocol={"steps": 4},
        networks={"model": "abc"},
        metrics={"sync": "how well; 1 is best"},
        systems=(
            SystemScores(name="ours", description="this", clips=ours),
            SystemScores(name="theirs", description="that", clips=theirs),
        ),
        comparisons=(("sync", "ours", "theirs"),),
    )


def test_interval_holds_the_mean_and_shrinks_to_it_for_equal_values():
    spread = estimate([0.1, 0.4, 0.2, 0.9, 0.5])
    assert spread.low is not None
    assert spread.high is not None
    assert spread.mean == pytest.approx(0.42)
    assert spread.low < 0.42 < spread.high
    equal = estimate([2.0, 2.0, 2.0])
    assert (equal.mean, equal.low, equal.high, equal.n) == (2, 2, 2, 3)
    assert estimate([]).mean is None


def test_report_json_has_the_public_shape():
    data = json.loads(_report().to_json())
    assert data["systems"]["ours"]["metrics"]["sync"] == {"mean": 0.7, "low": 0.5, "high": 0.9, "n": 3}
    assert data["systems"]["theirs"]["metrics"]["sync"]["n"] == 3
    assert [clip["id"] for clip in data["systems"]["theirs"]["clips"]] == ["0", "1", "2", "3"]
    assert data["systems"]["theirs"]["clips"][3]["not_measured"] == {"sync": "silent"}


def test_comparisons_are_paired_so_a_constant_gain_has_no_spread():
    (difference,) = json.loads(_report().to_json())["comparisons"]
    assert difference == {"metric": "sync", "system": "ours", "against": "theirs"} | {
        "mean": 0.1,
        "low": 0.1,
        "high": 0.1,
        "n": 3,
    }


def test_the_same_scores_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        _report().write(tmp_path / name)
    for file in ("report.json", "report.md"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_markdown_names_what_was_not_measured():
    text = _report().to_markdown()
    assert "| ours | 0.700 [0.500, 0.900] n=3 |" in text
    assert "- theirs, sync: silent" in text


def test_a_metric_that_cannot_be_computed_gives_its_reason():
    clip = truth_clip()
    scores = score([Unavailable(name="wer", description="", reason="no ears")], made_like(clip), clip)
    assert scores.scores == {}
    assert scores.not_measured == {"wer": "no ears"}
