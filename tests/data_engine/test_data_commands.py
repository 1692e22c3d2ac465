"""`uniavgen data` from the command line: exit codes, counts, reasons."""

import json
import subprocess
import sys

import pytest
from tests.data_engine.small_stages import write_film

from uniavgen.apps.cli import main
from uniavgen.data_engine.pack import planned_keys
from uniavgen.data_engine.registry import STAGES
from uniavgen.errors import DataError

LIGHT = {"probe", "loudness"}
WITHOUT = ",".join(stage.name for stage in STAGES if stage.name not in LIGHT)


@pytest.fixture
def films(tmp_path):
    """One that can be used, and one that is none."""
    write_film(tmp_path / "films" / "a.mp4")
    (tmp_path / "films" / "b.mp4").write_text("Not a film.")
    return tmp_path / "films"


def test_run_tells_what_cannot_be_used_and_forget_removes(films, tmp_path, capsys):
    work = ["--work", str(tmp_path / "work")]
    assert main(["data", "run", str(films), *work, "--without", WITHOUT]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("1 videos are scored")
    assert "b.mp4: probe: " in printed.err
    assert "1 videos or folders cannot be used in full" in printed.err
    assert main(["data", "pack", *work, "--out", str(tmp_path / "shards")]) == 2
    assert "no clip is kept; the reasons stand in" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "work" / "decisions.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(len(row["reasons"]) == 1 for row in rows)
    assert not (tmp_path / "shards").exists()
    assert main(["data", "forget", str(films / "a.mp4"), *work]) == 0
    assert str(films / "a.mp4") in capsys.readouterr().out
    assert main(["data", "run", str(films / "a.mp4"), *work, "--without", WITHOUT]) == 2
    assert "they have opted out or were forgotten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--without", "probes"], "there is no stage 'probes' to leave out"),
        (["--without", WITHOUT, "--jobs", "0"], "at least 1 job is done at a time, got 0"),
        (["--without", WITHOUT, "--set", "probe.colour=1"], "colour"),
        (["--without", WITHOUT, "--weights", "face-mesh"], "--weights is NAME=PATH"),
    ],
)
def test_options_of_run_that_make_no_sense_are_one_sentence(films, tmp_path, capsys, options, sentence):
    assert main(["data", "run", str(films), "--work", str(tmp_path / "work"), *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uniavgen: ")]
    assert sentence in line


FULL = """
import sys
from uniavgen.apps.cli import main
import subprocess
disk, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=True)
print("code", main([*command, "--work", disk + "/work"]))
subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
print("code", main([*command, "--work", disk + "/work"]))
"""


def test_full_disk_is_a_reason_of_each_source_and_a_later_run_goes_on(tmp_path):
    for index in range(4):
        write_film(tmp_path / "films" / f"{index}.mp4", tone_hz=300 + 50 * index)
    (tmp_path / "disk").mkdir()
    command = [str(tmp_path / "disk"), "data", "run", str(tmp_path / "films"), "--without", WITHOUT]
    script = ["unshare", "-rm", sys.executable, "-c", FULL, *command]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("file systems cannot be mounted here")
    codes = [line for line in done.stdout.splitlines() if line.startswith("code")]
    assert codes[1] == "code 0", done.stderr
    assert "4 videos are scored" in done.stdout
    assert "no space left on device; free some space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "index",
    ["[]", "{", '{"sources": 5}', '{"sources": {"../..": "x"}}', '{"packs": {}}', '{"stages": [1]}', '{"other": 1}'],
)
def test_damaged_index_of_a_work_folder_is_one_sentence_and_stays(tmp_path, capsys, index):
    work = tmp_path / "work"
    work.mkdir()
    (work / "work.json").write_text(index)
    for command in (["pack", "--out", str(tmp_path / "shards")], ["forget", "a.mp4"]):
        assert main(["data", *command, "--work", str(work)]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uniavgen: ")]
        assert "work.json" in line
    assert {path.name: path.read_text() for path in work.iterdir()} == {"work.json": index}
    assert not (tmp_path / "shards").exists()


def test_damaged_plan_beside_shards_is_an_error_because_a_clip_could_be_left(tmp_path):
    (tmp_path / "clips.jsonl").write_text('{"cut": {}}\n{"key": "a", "source": "b"}\n{"key": ["c"]}\n')
    with pytest.raises(DataError, match="line 3 names no clip with its source"):
        planned_keys(tmp_path)
