"""One of two processes is killed, or their launcher told to stop: the run ends in the bytes of an undisturbed one."""

import os
import signal
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from interruptions import SETTINGS, before_call, kill
from tests.forks import command, torchrun

from uniavgen.config import load
from uniavgen.models.config import TransformerConfig
from uniavgen.training import checkpointer

STEPS = 5

pytestmark = pytest.mark.slow


def terminate_launcher() -> None:
    os.kill(os.getppid(), signal.SIGTERM)


MOMENTS = {
    "undisturbed": lambda: None,
    "killed-in-step": lambda: before_call(torch.Tensor, "backward", 3, kill),
    "killed-in-checkpoint": lambda: before_call(checkpointer, "checksum", 2, kill),
    "launcher-terminated": lambda: before_call(torch.Tensor, "backward", 2, terminate_launcher),
}
"""Name to what the second process prepares in its first life."""


def one_of_two(moment: str, words: list[str]) -> None:
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        MOMENTS[moment]()
    command(*words)


def train(folder: str, base: Path, name: str, moment: str, *more: str) -> CompletedProcess[str]:
    vocabulary = base / "vocabulary.txt"
    num_symbols = load(TransformerConfig, ["tiny/model"]).audio.speech.num_symbols
    vocabulary.write_text("\n".join("so itabcdefghjklmnpqruvwxyz"[:num_symbols]))
    settings = [*SETTINGS, f"train.steps={STEPS}", "sharding.shard_degree=2"]
    words = ["train", "-c", "nano/stage3", *(word for setting in settings for word in ("-s", setting))]
    words += ["--data", folder, "--vocab", str(vocabulary), "--device", "cpu", "--out", str(base / name), *more]
    return torchrun(base / "logs", one_of_two, moment, words, max_restarts=1)


def content(run: Path) -> dict[str, bytes]:
    """The files of a run apart from its curves and logs, which hold times."""
    files = (
        path for path in run.rglob("*") if path.is_file() and path.parent.name in ("transformer", f"step-{STEPS:08d}")
    )
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def base(folder, tmp_path_factory) -> Path:
    """A folder with an undisturbed run."""
    place = tmp_path_factory.mktemp("runs")
    done = train(folder, place, "whole", "undisturbed")
    assert done.returncode == 0, done.stdout
    assert len(content(place / "whole")) == 5
    return place


@pytest.mark.parametrize("moment", ["killed-in-step", "killed-in-checkpoint"])
def test_run_goes_on_by_itself_after_a_process_was_killed(folder, base, moment):
    done = train(folder, base, moment, moment)
    assert done.returncode == 0, done.stdout
    assert "exitcode: -9" in done.stdout
    assert content(base / moment) == content(base / "whole")
    assert not list((base / moment).rglob("*.partial"))


def test_terminated_launcher_lets_the_processes_save_and_the_run_is_resumed(folder, base):
    stopped = train(folder, base, "stopped", "launcher-terminated")
    assert stopped.returncode != 0
    (line_of_stop,) = [line for line in stopped.stdout.splitlines() if line.startswith("stopped after step")]
    step = int(line_of_stop.split()[3].rstrip(","))
    assert 2 <= step < STEPS
    saved = sorted((base / "stopped" / "checkpoints").iterdir())
    assert saved[-1].name == f"step-{step:08d}"
    assert not (base / "stopped" / "transformer").exists()
    done = train(folder, base, "stopped", "undisturbed", "--resume")
    assert done.returncode == 0, done.stdout
    assert content(base / "stopped") == content(base / "whole")
