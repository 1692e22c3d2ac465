"""Which metrics can be had: by name, by group, by what lies where."""

import pytest

from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.evaluation.registry import ENTRIES, GROUPS, Options, choose
from uniavgen.evaluation.metrics.judge import Endpoint
from uniavgen.perception.weights import NETWORKS, WeightResolver
from uniavgen.evaluation.published import TABLE_1


def _choose(*wanted: str, places: WeightResolver | None = None, **options):
    return choose(wanted, places or WeightResolver(weights={}), Options(**options))


def test_without_any_weights_everything_else_is_missing_with_a_way_to_get_it():
    chosen = _choose()
    have = [column.name for metric in chosen.metrics for column in metric.columns]
    assert {"mouth_correlation", "face_mask_iou"} <= {*have}
    reasons = {missing.column.name: missing.reason for missing in chosen.missing}
    assert {*TABLE_1["UniAVGen"]} <= {*reasons}
    assert "--weights raft=..." in reasons["dd"]
    assert "--judge URL" in reasons["tc"]
    assert "syncnet_v2.model" in reasons["ls"]
    assert {*have} | {*reasons} == {column.name for entry in ENTRIES.values() for column in entry.columns}


def test_groups_and_names_choose():
    assert {entry.group for entry in ENTRIES.values()} == {*GROUPS}
    assert [column.name for metric in _choose("face_mask").metrics for column in metric.columns] == ["face_mask_iou"]
    assert len(_choose("truth").metrics) == 2
    with pytest.raises(ConfigError, match="there is no metric 'sharpness'"):
        _choose("sharpness")
    with pytest.raises(ConfigError, match="none of these metrics can be computed here"):
        _choose("dynamic_degree")


def test_every_network_of_a_metric_is_known_and_every_known_one_is_used():
    used = {name for entry in ENTRIES.values() for name in entry.networks}
    assert used == {*NETWORKS}


def test_weights_are_taken_from_the_command_line_before_the_assets(tmp_path):
    (tmp_path / "assets" / "raft").mkdir(parents=True)
    (tmp_path / "assets" / "raft" / "raft-things.pth").write_bytes(b"1")
    (tmp_path / "mine.pth").write_bytes(b"2")
    from_assets = WeightResolver(weights={}, assets=tmp_path / "assets").find("raft")
    named = WeightResolver(weights={"raft": str(tmp_path / "mine.pth")}, assets=tmp_path / "assets").find("raft")
    assert (from_assets.label, named.label) == ("raft-things.pth", "mine.pth")
    facts = _choose("dynamic_degree", places=WeightResolver(weights={"raft": str(tmp_path / "mine.pth")})).networks
    assert facts["raft"]["licence"] == "BSD-3-Clause"
    assert len(facts["raft"]["sha256"]) == 64


def test_a_hub_name_is_taken_only_where_the_hub_has_the_network(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="there are no weights owner/name for raft"):
        WeightResolver(weights={"raft": "owner/name"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="owner/name could not be fetched from the hub"):
        WeightResolver(weights={"dino": "owner/name"}).find("dino")


def test_asking_for_a_metric_by_name_asks_the_hub_for_its_usual_weights(tmp_path, monkeypatch):
    asked = []

    def snapshot(name, **_):
        asked.append(name)
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert _choose("subject_consistency").networks["dino"]["source"] == "facebook/dino-vitb16"
    _choose()
    assert asked == ["facebook/dino-vitb16"]


def test_a_judge_makes_its_columns_available():
    chosen = _choose("judge", judge=Endpoint(url="http://127.0.0.1:1", model="gemini-2.5-pro"))
    assert [column.name for metric in chosen.metrics for column in metric.columns] == ["tc", "ec"]
