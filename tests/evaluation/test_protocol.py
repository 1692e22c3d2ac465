"""The protocol: rows, reasons, the control, and what a second run does."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from uniavgen.errors import DataError
from uniavgen.evaluation import protocol
from uniavgen.evaluation.clip import MAX_S, DecodedClip, read_clip
from uniavgen.evaluation.prompts import read_prompts
from uniavgen.evaluation.protocol import ClipMeasured, ClipRow, System, run
from uniavgen.evaluation.store import ScoreStore

from .builders import Loudness, prompt_set, write_noise, write_set


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate("abc"):
        write_noise(folder / f"{name}.mp4", seed=seed)
    return folder


def _rows(folder: Path, store: Path, *ids: str) -> dict[str, ClipRow]:
    (system_rows,) = run([System(name="s", folder=folder)], prompt_set(*ids), [Loudness()], ScoreStore(store), {})
    return {row.id: row for row in system_rows.rows}


def test_control_measures_clips_against_another_prompt(clips, tmp_path):
    metric = Loudness()
    systems = [System(name="s", folder=clips), System(name="chance", folder=clips, mismatched_prompts=True)]
    own, other = run(systems, prompt_set(*"abc"), [metric], ScoreStore(tmp_path), {})
    assert list(own.values("own").values()) == [1, 1, 1]
    assert list(other.values("own").values()) == [0, 0, 0]
    assert metric.measured == [("a", "a"), ("a", "b"), ("b", "b"), ("b", "c"), ("c", "c"), ("c", "a")]


def test_clip_is_decoded_once_for_its_own_and_its_control_measurement(clips, tmp_path, monkeypatch):
    decoded: list[str] = []

    def counted(path: Path) -> DecodedClip:
        decoded.append(path.name)
        return read_clip(path)

    monkeypatch.setattr(protocol, "read_clip", counted)
    systems = [System(name="s", folder=clips), System(name="chance", folder=clips, mismatched_prompts=True)]
    run(systems, prompt_set(*"abc"), [Loudness()], ScoreStore(tmp_path), {})
    assert decoded == ["a.mp4", "b.mp4", "c.mp4"]
    run(systems, prompt_set(*"abc"), [Loudness()], ScoreStore(tmp_path), {})
    assert len(decoded) == 3


def test_second_run_measures_nothing_and_reports_the_same(clips, tmp_path):
    first, second = Loudness(), Loudness()
    systems = [System(name="s", folder=clips)]
    before = run(systems, prompt_set(*"abc"), [first], ScoreStore(tmp_path), {})
    assert run(systems, prompt_set(*"abc"), [second], ScoreStore(tmp_path), {}) == before
    assert (len(first.measured), len(second.measured)) == (3, 0)


def test_interrupted_run_resumes(clips, tmp_path):
    run([System(name="s", folder=clips)], prompt_set("a"), [Loudness()], ScoreStore(tmp_path), {})
    later, steps = Loudness(), list[ClipMeasured]()
    run([System(name="s", folder=clips)], prompt_set(*"abc"), [later], ScoreStore(tmp_path), {}, steps.append)
    assert [own for own, _ in later.measured] == ["b", "c"]
    assert (steps[-1].done, steps[-1].total) == (3, 3)


def test_clip_that_changed_is_measured_again(clips, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    before = _rows(folder, tmp_path, "a")["a"].scores["loudness"]
    write_noise(folder / "a.mp4", loudness=0.1)
    assert _rows(folder, tmp_path, "a")["a"].scores["loudness"] < before / 2


def _mute(path: Path, num_frames: int = 9, fps: int = 16) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(num_frames):
            picture = np.full((32, 32, 3), 20 * (number % 10), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode(None))


def _cut_index(path: Path) -> None:
    write_noise(path)
    path.write_bytes(path.read_bytes()[:300])


def _sound_alone(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=24_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 24_000), np.float32), "fltp", "mono")
        frame.sample_rate = 24_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


BAD = {
    "no file": (lambda path: None, "there is no clip of this id"),
    "empty file": (lambda path: path.write_bytes(b""), "bad.mp4 is empty"),
    "text": (lambda path: path.write_text("no clip at all, only words"), "bad.mp4 is no sound or video"),
    "cut in its index": (_cut_index, "bad.mp4 holds neither"),
    "one frame": (lambda path: write_noise(path, seconds=1 / 16), "has 1 frames; 5 or more"),
    "slow": (lambda path: write_noise(path, seconds=3, fps=2), "has 2 frames a second"),
    "ten minutes": (lambda path: _mute(path, 4800, 8), f"longer than {MAX_S:g} s"),
    "sound alone": (_sound_alone, "has no picture track"),
}


@pytest.mark.parametrize("case", BAD)
def test_clip_that_cannot_be_measured_is_a_row_with_its_reason_and_the_rest_goes_on(case, clips, tmp_path):
    write, words = BAD[case]
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    write(folder / "bad.mp4")
    rows = _rows(folder, tmp_path, "a", "bad", "b")
    assert words in rows["bad"].problem
    assert str(tmp_path) not in rows["bad"].problem
    assert not rows["bad"].scores
    assert not rows["a"].problem
    assert rows["a"].scores
    assert rows["b"].scores


def test_clip_without_sound_is_measured_by_metrics_that_need_none(clips, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    _mute(folder / "mute.mp4")
    row = _rows(folder, tmp_path, "mute")["mute"]
    assert row.not_measured == {"loudness": "the clip has no sound track"}
    assert row.scores == {"own": 1}


def test_unknown_and_duplicate_clips_are_rows(clips, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    shutil.copy(folder / "a.mp4", folder / "a.mov")
    rows = _rows(folder, tmp_path, "a", "b")
    assert "several clips of this id: a.mov, a.mp4" in rows["a"].problem
    assert rows["c"].problem == "no prompt has this id"


def test_lines_that_are_no_prompt_are_rows_of_every_system(clips, tmp_path):
    file = write_set(tmp_path / "set", "ab")
    file.write_text(file.read_text() + '{"id": "b"}\n{"id": "d", "image": "none.png"}\n')
    (system_rows,) = run([System(name="s", folder=clips)], read_prompts(file), [Loudness()], ScoreStore(tmp_path), {})
    assert [(row.id, bool(row.problem)) for row in system_rows.rows] == [
        ("a", False),
        ("b", False),
        ("b", True),
        ("d", True),
        ("c", True),
    ]
    assert (system_rows.num_measured, system_rows.num_problems) == (2, 3)


def test_run_without_clips_is_an_error(clips, tmp_path):
    with pytest.raises(DataError, match="nothing to measure"):
        _rows(clips, tmp_path, "x", "y")
    with pytest.raises(DataError, match="no folder"):
        _rows(tmp_path / "none", tmp_path, "x")
    with pytest.raises(DataError, match="at least 2 prompts"):
        run([System(name="s", folder=clips, mismatched_prompts=True)], prompt_set("a"), [], ScoreStore(tmp_path), {})
