"""Stages in their order, and their records: made once, made again where anything that they follow from changes."""

import numpy as np
import pytest
from tests.data_engine.small_stages import Duration, Level, write_film

from uniavgen.data_engine import graph as graph_module
from uniavgen.data_engine.registry import STAGES, build_stages
from uniavgen.data_engine.source import find_sources
from uniavgen.errors import CheckpointError, ConfigError


def _records(work):
    """Name of each record to when its file was made."""
    return {path.stem: path.stat().st_mtime_ns for path in work.rglob("*.npz")}


@pytest.fixture
def source(tmp_path):
    write_film(tmp_path / "films" / "a.mp4")
    (source,), unreadable = find_sources([tmp_path / "films"])
    assert not unreadable
    return source


def test_graph_records_outputs_and_reads_them_again(tmp_path, source):
    graph = build_stages(tmp_path / "work", stages=(Level, Duration))
    assert graph.load(source) is None
    first = graph(source)
    made = _records(tmp_path / "work")
    again = build_stages(tmp_path / "work", stages=(Level, Duration))(source)
    assert list(first) == ["duration", "level"]
    assert again["duration"].values == first["duration"].values == {"duration_s": pytest.approx(2)}
    np.testing.assert_array_equal(again["level"].arrays["rms"], first["level"].arrays["rms"])
    assert first["level"].arrays["rms"].shape == (2,)
    assert first["level"].arrays["rms"].min() > 0.05
    assert _records(tmp_path / "work") == made


def test_graph_computes_again_what_follows_from_a_change(tmp_path, source):
    build_stages(tmp_path / "work", stages=(Duration, Level))(source)
    made = _records(tmp_path / "work")
    graph = build_stages(tmp_path / "work", stages=(Duration, Level), overrides=["level.step_s=0.5"])
    assert graph(source)["level"].values["num_steps"] == 4
    changed = _records(tmp_path / "work")
    assert changed["duration"] == made["duration"]
    assert changed["level"] != made["level"]

    class Newer(Duration):
        version = 2

    graph = build_stages(tmp_path / "work", stages=(Newer, Level), overrides=["level.step_s=0.5"])
    assert graph.load(source) is None
    graph(source)
    newest = _records(tmp_path / "work")
    assert all(newest[name] != changed[name] for name in ("duration", "level"))


@pytest.mark.parametrize(("long_s", "loadings"), [(1000.0, 1), (0.0, 3)])
def test_networks_are_loaded_once_or_dropped_after_long_sources(tmp_path, monkeypatch, long_s, loadings):
    loaded = []

    class Loading(Duration):
        def setup(self):
            loaded.append(self.name)

    for index in range(3):
        (tmp_path / f"{index}.mp4").write_text(str(index))
    monkeypatch.setattr(graph_module, "LONG_S", long_s)
    graph = build_stages(tmp_path / "work", stages=(Loading,))
    for source in find_sources([tmp_path])[0]:
        graph(source)
    assert len(loaded) == loadings


def test_damaged_record_is_made_again(tmp_path, source):
    graph = build_stages(tmp_path / "work", stages=(Duration, Level))
    first = graph(source)
    record = next((tmp_path / "work").rglob("level.npz"))
    whole = record.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], bytes([255 - byte for byte in whole])):
        record.write_bytes(damaged)
        again = graph(source)
        np.testing.assert_array_equal(again["level"].arrays["rms"], first["level"].arrays["rms"])
        assert record.read_bytes() == whole


def test_reason_of_a_stage_is_that_of_stages_behind_it(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("This is no film.")
    (source,), _ = find_sources([path])
    outputs = build_stages(tmp_path / "work", stages=(Duration, Level))(source)
    assert str(path) in outputs["duration"].reason
    assert outputs["level"].reason == f"duration: {outputs['duration'].reason}"


def test_graph_names_what_is_missing_before_anything_is_run(tmp_path):
    with pytest.raises(ConfigError, match="'level' needs 'duration'"):
        build_stages(tmp_path, stages=(Duration, Level), without=["duration"])
    with pytest.raises(ConfigError, match="no stage 'levels'"):
        build_stages(tmp_path, stages=(Duration, Level), without=["levels"])
    with pytest.raises(ConfigError, match=r"level\.step_s"):
        build_stages(tmp_path, stages=(Duration, Level), overrides=["level.step_s=0"])

    class Seer(Duration):
        required_networks = ("face-mesh",)

    with pytest.raises(CheckpointError, match=r"duration: no weights of face-mesh: .*--assets"):
        build_stages(tmp_path, stages=(Seer,))


def test_stages_of_the_engine_fit_together(tmp_path):
    """Every stage that is there can be ordered, and its settings have defaults."""
    names = [stage.name for stage in STAGES]
    assert len(names) == len(set(names))
    for stage in STAGES:
        assert stage.settings_class() == stage.settings_class()
        assert set(stage.requires) <= set(names)
