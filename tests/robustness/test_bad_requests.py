"""A few of the bad requests of `bad_requests.py`, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("bad_requests.py")


@pytest.mark.slow
def test_bad_requests_are_refused_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seed", "3", "--count", "60"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert "0 of 60 failed" in done.stdout
