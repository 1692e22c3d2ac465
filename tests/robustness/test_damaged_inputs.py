"""A few of the cases of `damaged_inputs.py` on every run, and proof that its checks can fail."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from damaged_inputs import Case, check
from forked import Outcome, files_below, run_forked

SCRIPT = Path(__file__).with_name("damaged_inputs.py")


@pytest.mark.slow
def test_damaged_inputs_end_in_success_or_one_sentence(tmp_path):
    """In a process of its own, because no user has the types checked as the tests do."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seed", "7", "--count", "20", "--only", "media,releases,options,texts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert "0 of 20 failed" in done.stdout
    assert not [*tmp_path.iterdir()]


def _wrong(outcome: Outcome, before: dict[str, str], folder: Path) -> list[str]:
    return check(outcome, Case("generate", "", []), before, files_below(folder), folder / "given")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("given", "work", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "given" / "input").write_text("as it was")
    return tmp_path


def test_check_finds_tracebacks(folder):
    def crash() -> int:
        raise ValueError("a bug")

    outcome = run_forked(crash, folder / "work")
    assert _wrong(outcome, files_below(folder), folder) == ["exit code 1, expected 0 or 2", "a traceback"]


def test_check_finds_hangs(folder):
    def wait() -> int:
        time.sleep(100)
        return 0

    outcome = run_forked(wait, folder / "work", limit_s=0.2)
    assert "in wait" in outcome.output
    assert [text.partition(":")[0] for text in _wrong(outcome, files_below(folder), folder)] == ["it hung"]


def test_check_finds_what_a_refusal_leaves_and_changes(folder):
    def refuse() -> int:
        Path("left").touch()
        (folder / "given" / "input").write_text("changed")
        print("uniavgen: no")
        return 2

    before = files_below(folder)
    outcome = run_forked(refuse, folder / "work")
    assert _wrong(outcome, before, folder) == ["left: left", "changed: input"]


def test_check_finds_temporary_files_of_a_success(folder):
    def succeed() -> int:
        Path("clip.mp4").touch()
        Path(".x.partial").touch()
        return 0

    before = files_below(folder)
    assert _wrong(run_forked(succeed, folder / "work"), before, folder) == ["left: .x.partial"]


def test_check_wants_one_sentence(folder):
    outcome = run_forked(lambda: print("something is wrong") or 2, folder / "work")
    assert _wrong(outcome, files_below(folder), folder) == ["0 sentences"]


def test_check_finds_signals(folder):
    outcome = run_forked(lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, folder / "work")
    assert outcome.code == -9
    assert _wrong(outcome, files_below(folder), folder) == ["exit code -9, expected 0 or 2"]
