"""`torchrun ... uniavgen generate`: the clip of one process, written once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from uniavgen.apps.cli import main
from uniavgen.media.video import read_video

from .builders import FPS, RATE_HZ


def test_clip_of_two_processes_is_that_of_one(model, inputs, tmp_path):
    words = ["generate", "--image", inputs["face.png"], "--speech", "Hi there.", "--model", model, "--num-frames", 9]
    command = [str(word) for word in words]
    assert main([*command, "--out", str(tmp_path / "one.mp4")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    shell = Path(sys.executable).with_name("uniavgen")
    done = subprocess.run(
        [*torchrun, shell, *command, "--out", str(tmp_path / "two.mp4")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("two.mp4: 9 frames") == 1
    one, two = (read_video(tmp_path / f"{name}.mp4", FPS, rate_hz=RATE_HZ) for name in ("one", "two"))
    assert np.abs(one.frames.astype(int) - two.frames).max() <= 1
    assert np.abs(one.waveform - two.waveform).max() < 1e-3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]
