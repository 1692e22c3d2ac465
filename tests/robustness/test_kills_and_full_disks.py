"""A few of the cases of `kills.py` and `full_disk.py` on every run, and proof that their comparison can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
from long_commands import LongCommand, result_of, temporary_files

FOLDER = Path(__file__).parent


def _run(script: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(FOLDER / script), *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_killed_commands_end_with_the_same_bytes_when_run_again():
    done = _run("kills.py", "--moments", "2", "--only", "train,prepare,convert")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    assert "0 of 6 failed" in done.stdout


@pytest.mark.slow
def test_full_disks_are_one_sentence_and_leave_nothing_half_written():
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("user and mount namespaces are not permitted here")
    done = _run("full_disk.py", "--sizes", "2", "--only", "generate,prepare")
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    assert "0 of 4 failed" in done.stdout


def test_differences_are_what_is_missing_left_or_other(tmp_path):
    for name in ("same", "other", "gone"):
        (tmp_path / name).write_text(name)
    command = LongCommand("train", [], result_of(tmp_path), 1.0)
    assert command.differences(tmp_path) == []
    (tmp_path / "gone").unlink()
    (tmp_path / "other").write_text("changed")
    (tmp_path / ".x.partial").touch()
    assert command.differences(tmp_path) == ["missing: gone", "left: .x.partial", "differs: other"]
    assert [Path(name).name for name in temporary_files(tmp_path)] == [".x.partial"]
