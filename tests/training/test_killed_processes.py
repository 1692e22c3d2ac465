"""One of two processes is killed, or their launcher told to stop: the run ends in the bytes of an undisturbed one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from interruptions import SETTINGS

from uniavgen.config import load
from uniavgen.models.config import TransformerConfig

SCRIPT = Path(__file__).with_name("killed_processes.py")
STEPS = 6

pytestmark = pytest.mark.slow


def train(folder: str, base: Path, name: str, moment: str, *more: str) -> subprocess.CompletedProcess:
    vocabulary = base / "vocabulary.txt"
    num_symbols = load(TransformerConfig, ["tiny/model"]).audio.speech.num_symbols
    vocabulary.write_text("\n".join("so itabcdefghjklmnpqruvwxyz"[:num_symbols]))
    settings = [*SETTINGS, f"train.steps={STEPS}", "sharding.shard_degree=2"]
    words = ["train", "-c", "nano/stage3", *(word for setting in settings for word in ("-s", setting))]
    words += ["--data", folder, "--vocab", str(vocabulary), "--device", "cpu", "--out", str(base / name), *more]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--max-restarts", "1", str(SCRIPT), moment]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launch, *words], capture_output=True, text=True, check=False, env=environment)


def content(run: Path) -> dict[str, bytes]:
    """The files of a run apart from its curves and logs, which hold times."""
    files = (path for path in run.rglob("*") if path.is_file() and path.parent.name in ("transformer", "step-00000006"))
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def base(folder, tmp_path_factory) -> Path:
    """A folder with an undisturbed run."""
    place = tmp_path_factory.mktemp("runs")
    done = train(folder, place, "whole", "undisturbed")
    assert done.returncode == 0, done.stderr
    assert len(content(place / "whole")) == 5
    return place


@pytest.mark.parametrize("moment", ["killed-in-step", "killed-in-checkpoint"])
def test_run_goes_on_by_itself_after_a_process_was_killed(folder, base, moment):
    done = train(folder, base, moment, moment)
    assert done.returncode == 0, done.stderr
    assert content(base / moment) == content(base / "whole")
    assert not list((base / moment).rglob("*.partial"))


def test_terminated_launcher_lets_the_processes_save_and_the_run_is_resumed(folder, base):
    stopped = train(folder, base, "stopped", "launcher-terminated")
    assert stopped.returncode != 0
    (line_of_stop,) = [line for line in stopped.stdout.splitlines() if line.startswith("stopped after step")]
    step = int(line_of_stop.split()[3].rstrip(","))
    assert 3 <= step < STEPS
    saved = sorted((base / "stopped" / "checkpoints").iterdir())
    assert saved[-1].name == f"step-{step:08d}"
    assert not (base / "stopped" / "transformer").exists()
    done = train(folder, base, "stopped", "undisturbed", "--resume")
    assert done.returncode == 0, done.stderr
    assert content(base / "stopped") == content(base / "whole")
