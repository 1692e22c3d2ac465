"""Two processes give what one gives: sharing the picture, and sharing the passes of a step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def together(command: list[str], count: int = 2) -> list[subprocess.CompletedProcess]:
    """The command in `count` processes that know of each other, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    everywhere = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **everywhere, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    printed = [process.communicate() for process in started]
    return [
        subprocess.CompletedProcess(command, process.returncode, *streams)
        for process, streams in zip(started, printed, strict=True)
    ]


def test_sampling_in_two_processes_equals_one():
    for done in together([sys.executable, str(HERE / "two_processes.py")]):
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.splitlines()[-1] == "same"
