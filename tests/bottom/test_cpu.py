"""A process uses as many threads as it has cores to itself, and they wait without spinning."""

import os
import subprocess
import sys

import pytest

from uniavgen.cpu import configure_threads, usable_cores


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("99900000 100000", None)]
)
def test_usable_cores_follow_the_quota_of_a_container(tmp_path, quota, expected):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("50000", 1)])
def test_usable_cores_read_the_first_version_of_control_groups(tmp_path, quota, expected):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_usable_cores_without_control_groups_are_those_of_the_affinity(tmp_path):
    assert usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_configure_threads_keeps_what_the_user_set():
    environ = {"OMP_NUM_THREADS": "7"}
    configure_threads(environ)
    assert environ["OMP_NUM_THREADS"] == "7"
    assert environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds a process to cores")
def test_configure_threads_binds_torch_to_the_cores_of_the_process():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from uniavgen.cpu import configure_threads; configure_threads()\n"
        "import torch; print(torch.get_num_threads())"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
