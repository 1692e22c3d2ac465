"""Trains as `uniavgen train` does, in processes that torchrun starts, of which one does something at a chosen moment.

torchrun --nproc-per-node 2 tests/training/killed_processes.py MOMENT train ...
"""

import os
import signal
import sys

import torch
from interruptions import before_call, kill

from uniavgen.apps.cli import main
from uniavgen.training import checkpointer


def terminate_launcher() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


MOMENTS = {
    "undisturbed": lambda: None,
    "killed-in-step": lambda: before_call(torch.Tensor, "backward", 4, kill),
    "killed-in-checkpoint": lambda: before_call(checkpointer, "checksum", 3, kill),
    "launcher-terminated": lambda: before_call(torch.Tensor, "backward", 3, terminate_launcher),
}
"""Name to what the second process prepares in its first life."""

if __name__ == "__main__":
    moment = sys.argv.pop(1)
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        MOMENTS[moment]()
    sys.exit(main())
