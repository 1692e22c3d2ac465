"""Chooses how many CPU threads this process uses and how they wait, before torch starts its pool.

OpenMP reads its environment once, when torch is imported. Left alone it starts a thread for every core of the machine
and lets waiting threads spin; where other programs use the same cores, or a container may use only a share of them,
spinning threads take the time that the working ones need: ten times slower on two busy cores. [ours, measured]
"""

import math
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def configure_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Sets `OMP_NUM_THREADS` to the usable cores and `OMP_WAIT_POLICY` to passive, unless the user set them.

    It has no effect once torch is imported.
    """
    environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    # A thread that waits passively sleeps instead of spinning on a core that another process could use.
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The same for torch builds that use Intel's OpenMP, whose threads spin for 200 ms by default.
    environ.setdefault("KMP_BLOCKTIME", "0")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Returns the number of cores that this process may use: by affinity, and by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota = _quota(cgroup)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Cores a second that the control groups from `cgroup` down to this process's own allow; None without a limit."""
    limits = []
    for folder in _groups(cgroup):
        try:
            if (folder / "cpu.max").is_file():  # version 2: "quota period" in microseconds, or "max period"
                quota, period = (folder / "cpu.max").read_text().split()
            else:  # version 1: two files, -1 for no limit
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            continue
        if quota.isdecimal() and period.isdecimal() and int(quota) > 0 and int(period) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def _groups(cgroup: Path) -> list[Path]:
    """Returns the folders of this process's control group and of all above it, in both layouts of /sys/fs/cgroup."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    paths = [line.split(":", 2)[2].lstrip("/") for line in lines if line.count(":") >= 2]
    folders = []
    for root in (cgroup, cgroup / "cpu", cgroup / "cpu,cpuacct"):
        for path in paths or [""]:
            folder = root / path
            folders += [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))
