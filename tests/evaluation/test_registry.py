"""Which metrics can be had: by name, by group, by what lies where."""

import pytest

from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.evaluation.judge_endpoint import JudgeEndpoint
from uniavgen.evaluation.metric import Group
from uniavgen.evaluation.published import TABLE_1
from uniavgen.evaluation.registry import METRICS, select_metrics
from uniavgen.perception.weights import NETWORKS, WeightResolver


def test_columns_without_weights_are_missing_with_a_way_to_get_them():
    chosen = select_metrics([])
    have = [column.name for metric in chosen.metrics for column in metric.columns]
    assert {"lips_in_time", "face_mask_iou"} <= {*have}
    reasons = {missing.column.name: missing.reason for missing in chosen.missing}
    assert {*TABLE_1["UniAVGen"]} <= {*reasons}
    assert "--weights raft=..." in reasons["dd"]
    assert "--judge URL" in reasons["tc"]
    assert "syncnet_v2.model" in reasons["ls"]
    assert {*have} | {*reasons} == {column.name for metric in METRICS.values() for column in metric.columns}


def test_metrics_are_selected_by_names_and_groups():
    assert {metric.group for metric in METRICS.values()} == {*Group}
    (metric,) = select_metrics(["face_mask"]).metrics
    assert [column.name for column in metric.columns] == ["face_mask_iou"]
    assert len(select_metrics(["truth"]).metrics) == 1
    with pytest.raises(ConfigError, match="there is no metric 'sharpness'"):
        select_metrics(["sharpness"])
    with pytest.raises(ConfigError, match="none of these metrics can be computed here"):
        select_metrics(["dynamic_degree"])


def test_networks_of_metrics_are_the_known_ones():
    used = {name for metric in METRICS.values() for name in metric.required_networks}
    assert used == {*NETWORKS}


def test_weights_are_taken_from_the_command_line_before_the_assets(tmp_path):
    (tmp_path / "assets" / "raft").mkdir(parents=True)
    (tmp_path / "assets" / "raft" / "raft-things.pth").write_bytes(b"1")
    (tmp_path / "mine.pth").write_bytes(b"2")
    from_assets = WeightResolver(weights={}, assets=tmp_path / "assets").resolve("raft")
    named = WeightResolver(weights={"raft": str(tmp_path / "mine.pth")}, assets=tmp_path / "assets").resolve("raft")
    assert (from_assets.label, named.label) == ("raft-things.pth", "mine.pth")
    resolver = WeightResolver(weights={"raft": str(tmp_path / "mine.pth")})
    facts = select_metrics(["dynamic_degree"], resolver).networks
    assert facts["raft"]["licence"] == "BSD-3-Clause"
    assert len(facts["raft"]["sha256"]) == 64


def test_hub_name_is_taken_only_where_the_hub_has_the_network(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="there are no weights owner/name for raft"):
        WeightResolver(weights={"raft": "owner/name"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="owner/name could not be fetched from the hub"):
        WeightResolver(weights={"dino": "owner/name"}).resolve("dino")


def test_metric_requested_by_name_takes_its_usual_weights_from_the_hub(tmp_path, monkeypatch):
    requested = []

    def snapshot(name, **_):
        requested.append(name)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert select_metrics(["subject_consistency"]).networks["dino"]["source"] == "facebook/dino-vitb16"
    select_metrics([])
    assert requested == ["facebook/dino-vitb16"]


def test_judge_makes_its_columns_available():
    chosen = select_metrics(["judge"], judge=JudgeEndpoint(url="http://127.0.0.1:1", model="gemini-2.5-pro"))
    assert [column.name for metric in chosen.metrics for column in metric.columns] == ["tc", "ec"]
