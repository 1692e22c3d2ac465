"""Training that is killed, stopped or without room goes on to the bytes of a run that nothing has disturbed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interruptions import MOMENTS

from uniavgen.config import load
from uniavgen.models.config import TransformerConfig

SCRIPT = Path(__file__).with_name("interruptions.py")
CHECKPOINT_FILES = ("shard-00001-model-00001-of-00001.safetensors", "train.json")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory) -> Path:
    """A folder of runs; the processes of all of them are children of one that has imported everything."""
    out = tmp_path_factory.mktemp("runs")
    num_symbols = load(TransformerConfig, ["tiny/model"]).audio.speech.num_symbols
    vocabulary = out / "vocabulary.txt"
    # The letters of the features' transcripts first.
    vocabulary.write_text("\n".join("so itabcdefghjklmnpqruvwxyz"[:num_symbols]))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), folder, str(vocabulary), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def outcome_of(runs: Path, name: str) -> dict:
    return json.loads((runs / "outcomes.json").read_text())[name]


def content(run: Path) -> dict[str, bytes]:
    """The files of a run apart from its curves, which hold times."""
    files = (path for path in run.rglob("*") if path.is_file() and path.parent.name != "curves")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", [*MOMENTS])
def test_disturbed_training_goes_on_to_the_same_bytes(runs, name):
    outcome = outcome_of(runs, name)
    assert outcome["code_again"] == 0, outcome["output_again"]
    whole, resumed = content(runs / "whole"), content(runs / name)
    assert sorted(whole) == sorted(resumed)
    assert [file for file in whole if whole[file] != resumed[file]] == []
    assert not [path for path in runs.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", [name for name in MOMENTS if name.startswith("killed")])
def test_killed_training_has_a_complete_checkpoint(runs, name):
    outcome = outcome_of(runs, name)
    assert outcome["code"] == -signal.SIGKILL, outcome["output"]
    assert complete_checkpoints(outcome["files"])


@pytest.mark.parametrize("name", [name for name in MOMENTS if name.startswith("stopped")])
def test_stopped_training_leaves_nothing_half_written(runs, name):
    outcome = outcome_of(runs, name)
    assert outcome["code"] == 128 + signal.SIGTERM, outcome["output"]
    assert "Traceback" not in outcome["output"]
    assert_only_complete_files(outcome["files"])


def test_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(runs):
    outcome = outcome_of(runs, "full-disk")
    assert outcome["code"] == 2
    # While training goes on a checkpoint that fails is a warning, the last one is an error.
    warnings = [
        line for line in outcome["output"].splitlines() if "the last complete checkpoint is step-00000001" in line
    ]
    assert len(warnings) == 2
    (sentence,) = [line for line in outcome["output"].splitlines() if line.startswith("uniavgen: ")]
    assert "step-00000004 could not be written: file too large; free some space" in sentence
    assert "Traceback" not in outcome["output"]
    assert complete_checkpoints(outcome["files"]) == {"step-00000001"}
    assert_only_complete_files(outcome["files"])


def complete_checkpoints(files: list[str]) -> set[str]:
    folders = {Path(file).parent for file in files if file.startswith("checkpoints/step-")}
    return {folder.name for folder in folders if all(str(folder / name) in files for name in CHECKPOINT_FILES)}


def assert_only_complete_files(files: list[str]) -> None:
    names = complete_checkpoints(files)
    expected = {f"checkpoints/{name}/{file}" for name in names for file in CHECKPOINT_FILES}
    assert names
    assert {file for file in files if not file.startswith("curves/")} == expected
