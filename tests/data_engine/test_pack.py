"""Clips are cut exactly, kept by rules, and packed to the same bytes whoever cuts them."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data_engine.small_stages import FLASH_S, STAGES, write_film
from tests.forks import CONTEXT

from uniavgen.data.shards import ShardSet
from uniavgen.data.sources import ShardSource
from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.choose_executor import choose_executor
from uniavgen.data_engine.corpus import duplicates_of, persons_of
from uniavgen.data_engine.executors import InProcess
from uniavgen.data_engine.forget import DECISIONS_FILE, forget
from uniavgen.data_engine.processes import ProcessPool
from uniavgen.data_engine.rights import Rights
from uniavgen.data_engine.rules import Limit, Rules
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.stage import StageOutput
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase
from uniavgen.workflows.data_engine import PackConfig, StageSelection, load_rules, pack, run_stages

NUM_FRAMES = 33
SELECTION = StageSelection(stages=STAGES)
RULES = Rules(min_words=1)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Three sources; the sound of two is late, or early, and one runs at another rate."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "a.mp4", 9, late_s=0.16)
    write_film(folder / "more" / "b.mp4", 9, tone_hz=500, fps=30, late_s=-0.12)
    write_film(folder / "c.mp4", 9, tone_hz=700, grey=200)
    rows = "file,licence,consent,attribution\na.mp4,CC-BY-4.0,yes,Ann\nc.mp4,,no,\n"
    (folder / "sources.csv").write_text(rows)
    return folder


@pytest.fixture(scope="module")
def work(films, tmp_path_factory):
    """The records of all three."""
    folder = tmp_path_factory.mktemp("work")
    run_stages([films], folder, SELECTION)
    return folder


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _decisions(work):
    return [json.loads(line) for line in (work / DECISIONS_FILE).read_text().splitlines()]


def _starts(levels, threshold):
    return np.flatnonzero(np.diff((levels > threshold).astype(int), prepend=1) > 0)


def test_clips_have_exact_lengths_and_sound_that_fits_the_picture(work, tmp_path):
    """Half a frame is 31 ms; a flash is found to a frame of the source."""
    _, summary = pack(PackConfig(work=work, out=tmp_path / "shards", num_frames=NUM_FRAMES), RULES)
    timing = Timebase().clip(NUM_FRAMES)
    source = ShardSource(shards=ShardSet(tmp_path / "shards"), timing=timing)
    assert summary.num_clips == len(source.keys) >= 6
    assert summary.sizes == {(64, 48): summary.num_clips}
    errors_s = []
    for key in source.keys:
        sample = source.read(key)
        assert sample.frames.shape == (NUM_FRAMES, 48, 64, 3)
        assert abs(len(sample.waveform) / 24_000 - NUM_FRAMES / 16) < 0.5 / 16
        assert sample.text.split() == [word.text for word in sample.words]
        flashes = _starts(sample.frames.mean(axis=(1, 2, 3)), 230) / 16
        loud = np.abs(sample.waveform[: len(sample.waveform) // 240 * 240]).reshape(-1, 240).max(axis=1)
        beeps = _starts(loud, 0.05) / 100
        assert len(flashes) >= 1
        errors_s += [min((beep - flash for beep in beeps), key=abs) for flash in flashes]
        for word in sample.words:
            assert min(abs(beep - word.start_s) for beep in [0.0, *beeps]) <= 0.02
            assert word.end_s - word.start_s <= FLASH_S + 0.03
    # A frame at 16 a second shows what is seen in its middle: 31 ms early to 31 ms late.
    assert max(map(abs, errors_s)) < 0.5 / 16 + 0.02
    assert abs(np.mean(errors_s)) < 0.02


def test_shards_are_the_same_bytes_whoever_cuts_and_however_often_they_were_stopped(work, tmp_path):
    pack(PackConfig(work=work, out=tmp_path / "here", num_frames=NUM_FRAMES), RULES)
    pack(PackConfig(work=work, out=tmp_path / "pool", num_frames=NUM_FRAMES), RULES, ProcessPool(2))
    assert _bytes(tmp_path / "pool") == _bytes(tmp_path / "here")

    class Stopped(InProcess):
        def attempts(self, task, jobs, max_ahead):
            for number, answer in super().attempts(task, jobs, max_ahead):
                if number == 2:
                    raise KeyboardInterrupt
                yield number, answer

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pack(PackConfig(work=work, out=tmp_path / "stopped", num_frames=NUM_FRAMES), RULES, Stopped())
    pack(PackConfig(work=work, out=tmp_path / "stopped", num_frames=NUM_FRAMES), RULES)
    assert _bytes(tmp_path / "stopped") == _bytes(tmp_path / "here")


def test_rules_give_every_reason_and_rerun_nothing(work, tmp_path):
    records = {path: path.stat().st_mtime_ns for path in (work / "records").rglob("*.npz")}
    dark = Limit(reason="it is too dark", minimum=170.0)
    rules = replace(RULES, scores={"sync": {"brightness": dark}}, require_licence=True, require_consent=True)
    with pytest.raises(DataError, match="no clip is kept"):
        pack(PackConfig(work=work, out=tmp_path / "none", num_frames=NUM_FRAMES), rules)
    by_file = {}
    for row in _decisions(work):
        by_file.setdefault(Path(row["source"]).name, []).append(row)
    assert {name: len(rows) for name, rows in by_file.items()} == {"a.mp4": 2, "b.mp4": 2, "c.mp4": 2}
    assert all("it is too dark (brightness" in row["reasons"][0] for row in by_file["a.mp4"])
    for row in by_file["b.mp4"]:
        assert row["reasons"][:2] == ["the licence is unknown", "consent is unknown"]
        assert row["reasons"][2].startswith("it is too dark (brightness 134, at least 170)")
    assert {reason for row in by_file["c.mp4"] for reason in row["reasons"]} == {
        "the licence is unknown",
        "consent was refused",
    }
    looser = replace(rules, scores={"sync": {"brightness": replace(dark, minimum=50.0)}})
    _, summary = pack(PackConfig(work=work, out=tmp_path / "a", num_frames=NUM_FRAMES), looser)
    assert summary.num_clips == 4
    shards = ShardSet(tmp_path / "a")
    facts = [json.loads(shards.read(i, "json")) for i in range(len(shards))]
    assert {(row["rights"]["licence"], row["rights"]["attribution"]) for row in facts} == {("CC-BY-4.0", "Ann")}
    assert not (tmp_path / "none").exists()
    assert {path: path.stat().st_mtime_ns for path in (work / "records").rglob("*.npz")} == records


def test_shards_of_other_rules_are_not_mixed(work, tmp_path):
    pack(PackConfig(work=work, out=tmp_path / "shards", num_frames=NUM_FRAMES), RULES)
    before = _bytes(tmp_path / "shards")
    for config, rules in (
        (PackConfig(work=work, out=tmp_path / "shards", num_frames=17), RULES),
        (PackConfig(work=work, out=tmp_path / "shards", num_frames=NUM_FRAMES), replace(RULES, require_licence=True)),
    ):
        with pytest.raises(DataError, match="holds clips of other records, rules or options"):
            pack(config, rules)
    assert _bytes(tmp_path / "shards") == before


def test_forgotten_source_is_gone_from_records_and_shards_and_stays_away(films, tmp_path):
    work, shards = tmp_path / "work", tmp_path / "shards"
    run_stages([films], work, SELECTION)
    pack(PackConfig(work=work, out=shards, num_frames=NUM_FRAMES), RULES)
    before = ShardSet(shards)
    parts = {key: before.read(i, "mp4") for i, key in enumerate(before.keys)}
    person, _ = sorted({row["person"] for row in _decisions(work) if row["source"].endswith("a.mp4")})
    with pytest.raises(DataError, match="there is no source or person 'nobody'"):
        forget(WorkFolder(work), "nobody")
    gone = forget(WorkFolder(work), person, features=[shards])
    (key,) = gone.sources
    assert not (work / "records" / key).exists()
    assert key not in "".join(path.read_text() for path in work.glob("*.jsonl"))
    after = ShardSet(shards)
    assert {*before.keys} - {*after.keys} == {*gone.clips}
    assert all(clip.startswith(key) for clip in gone.clips)
    assert {key: after.read(i, "mp4") for i, key in enumerate(after.keys)}.items() <= parts.items()
    summary = run_stages([films], work, SELECTION)
    assert [path.name for path in summary.left_out] == ["a.mp4"]
    _, again = pack(PackConfig(work=work, out=shards, num_frames=NUM_FRAMES), RULES)
    assert again.num_clips == len(after)


def test_bad_files_are_reasons_and_the_rest_goes_on(films, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    whole = (films / "a.mp4").read_bytes()
    (folder / "good.mp4").write_bytes(whole)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    index = whole.index(b"moov") - 4
    end = index + int.from_bytes(whole[index : index + 4], "big")
    (folder / "no_moov.mp4").write_bytes(whole[:index] + whole[end:])
    (folder / "text.mp4").write_text("Not a film.")
    (folder / "empty.mp4").touch()
    with (folder / "sparse.mp4").open("wb") as sparse:
        sparse.truncate(10 << 30)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "nowhere.mp4").symlink_to(folder / "missing")
    summary = run_stages([folder], tmp_path / "work", SELECTION)
    assert summary.num_usable >= 1
    reasons = {failure.path.name: failure.reason for failure in summary.failures}
    assert {"no_moov.mp4", "text.mp4", "empty.mp4", "sparse.mp4", "pipe.mp4", "nowhere.mp4"} <= reasons.keys()
    assert "good.mp4" not in reasons
    with pytest.raises(DataError, match=r"none of the sources can be used, first .*text\.mp4"):
        run_stages([folder / "text.mp4"], tmp_path / "other", SELECTION)
    with pytest.raises(DataError, match="there is no file or folder"):
        run_stages([folder / "nothing"], tmp_path / "other", SELECTION)


def run_and_pack(sources: Path, work: Path, shards: Path, where: str) -> None:
    """Does all of it, or what is left."""
    # Ray starts interpreters, which have to find this module.
    os.environ["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parents[2]), *sys.path))
    executor = choose_executor(None if where == "here" else 2, "local" if where == "ray" else None)
    run_stages([sources], work, SELECTION, executor)
    pack(PackConfig(work=work, out=shards, num_frames=NUM_FRAMES), RULES, executor)


@pytest.mark.parametrize(
    "where", ["here", pytest.param("2", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]
)
def test_run_and_pack_killed_at_three_moments_go_on_to_the_same_bytes(films, work, tmp_path, where):
    if where == "ray":
        pytest.importorskip("ray")
    pack(PackConfig(work=work, out=tmp_path / "whole", num_frames=NUM_FRAMES), RULES)
    arguments = (films, tmp_path / "work", tmp_path / "shards", where)
    moments = ("work/records/*/duration.npz", "work/records/*/sync.npz", "shards/clips.jsonl", None)
    for found in moments:
        process = CONTEXT.Process(target=run_and_pack, args=arguments)
        process.start()
        while process.is_alive() and not (found and any(tmp_path.glob(found))):
            time.sleep(0.01)
        if found:
            process.kill()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if found else 0)
    assert _bytes(tmp_path / "shards") == _bytes(tmp_path / "whole")


def test_rules_of_the_preset_can_be_changed_one_by_one():
    rules = load_rules(overrides=["scores.sync.brightness={reason: dark, minimum: 3}"], require_licence=True)
    assert rules.require_licence
    assert rules.scores["sync"]["brightness"] == Limit(reason="dark", minimum=3.0)


def _candidate(folder, key, index, segments, **outputs):
    """A candidate of a source with these outputs of stages."""
    rows = [{"start_s": float(10 * i), "end_s": float(10 * i + 10)} for i in range(segments)]
    stages = {"segments": StageOutput(values={"segments": rows})} | outputs
    source = SourceVideo(path=folder / f"{key}.mp4", key=key, rights=Rights())
    return Candidate(
        source=source, index=index, start_s=rows[index]["start_s"], end_s=rows[index]["end_s"], outputs=stages
    )


def test_persons_are_grouped_across_sources_and_named_after_their_first_candidate(tmp_path):
    """Two people in two sources each; one source has no faces, and of one segment nothing is known."""
    rng = np.random.default_rng(0)
    ann, bob = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 16)))
    nothing = np.zeros(16)
    first = {"speaker": StageOutput(arrays={"embedding": np.stack([ann, bob])})}
    second = {
        "speaker": StageOutput(arrays={"embedding": np.stack([bob, ann, nothing])}),
        "face_identity": StageOutput(arrays={"embedding": np.stack([bob[:8], ann[:8], nothing[:8]])}),
    }
    candidates = [_candidate(tmp_path, "b", i, 3, **second) for i in (2, 1, 0)]
    candidates += [_candidate(tmp_path, "a", i, 2, **first) for i in (0, 1)]
    names = dict(zip([each.key for each in candidates], persons_of(candidates), strict=True))
    assert names == {
        "a-00000": "person-a-00000",
        "a-00001": "person-a-00001",
        "b-00000": "person-a-00001",
        "b-00001": "person-a-00000",
        "b-00002": "person-b-00002",
    }


def test_duplicates_are_alike_in_words_and_pictures_of_one_candidate_each(tmp_path):
    said = ["one", "two", "three", "four", "five", "six"]

    def transcript(words, hashes):
        rows = [{"text": word, "start_s": i + 1.0, "end_s": i + 1.5} for i, word in enumerate(words)]
        return {
            "transcript": StageOutput(values={"words": rows}),
            "hashes": StageOutput(values={"segments": [hashes]}),
        }

    same, other = ["0123456789abcdef"], ["fedcba9876543210"]
    candidates = [
        _candidate(tmp_path, key, 0, 1, **transcript(words, hashes))
        for key, words, hashes in (
            ("a", said, same),
            ("b", said, same),
            ("c", said, other),
            ("d", said[::-1], same),
        )
    ]
    assert duplicates_of(candidates) == {"b-00000": "a-00000"}
