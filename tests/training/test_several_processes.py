"""`torchrun ... uniavgen train`: the weights of one process, written and told once; errors are one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tests.forks import command, torchrun
from tiny_run import SETTINGS, write_features

from uniavgen.apps.cli import main
from uniavgen.config import dump, load
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpoint_files import checkpoints

pytestmark = pytest.mark.slow

SPEECH = "audio.speech.num_symbols=95"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_features(tmp_path_factory.mktemp("several") / "data")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model with all of nano's symbols."""
    assert SETTINGS.audio.speech.num_symbols != 95
    path = tmp_path_factory.mktemp("model") / "model.yaml"
    path.write_text(yaml.safe_dump(dump(load(TransformerConfig, ["tiny/model"], [SPEECH]))))
    return str(path)


def words(model: str, data: str, out: Path, *more: str) -> list[str]:
    settings = [
        f"model={model}",
        "train.steps=3",
        "train.batch_size=4",
        "train.compile=false",
        "train.precision=fp32",
        "data.num_frames=9",
        "stage.tasks.reference_s=[0.2,0.4]",
        "stage.losses={face_mask: {start: 0.1, end: 0.0}, face_focus: 0.0}",
        *more,
    ]
    given = [part for setting in settings for part in ("-s", setting)]
    return ["train", "-c", "nano/stage3", *given, "--data", data, "--out", str(out), "--device", "cpu"]


def test_two_processes_write_the_weights_of_one_once(data, model, tmp_path):
    assert main(words(model, data, tmp_path / "one")) == 0
    done = torchrun(tmp_path, command, *words(model, data, tmp_path / "two", "sharding.shard_degree=2"))
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.count("3 steps are done") == 1
    assert [path.name for path in checkpoints(tmp_path / "two" / "checkpoints")] == ["step-00000003"]
    assert len(list((tmp_path / "two" / "curves").glob("events.*"))) == 1
    one, two = (UniAVGenTransformer.from_pretrained(tmp_path / name / "transformer") for name in ("one", "two"))
    torch.testing.assert_close(two.state_dict(), one.state_dict(), rtol=1e-6, atol=1e-6)


def test_number_of_processes_that_does_not_divide_the_batch_is_one_sentence(data, model, tmp_path):
    done = torchrun(tmp_path, command, *words(model, data, tmp_path / "out", "train.batch_size=3"))
    assert done.returncode != 0
    ours = [line for line in done.stdout.splitlines() if line.startswith("uniavgen:")]
    assert len(ours) == 1
    assert "a batch of 3 clips" in ours[0]
    assert "cannot be shared evenly by 2 processes" in ours[0]
    assert "exitcode  : 2" in done.stdout
    assert not (tmp_path / "out").exists()


def test_error_of_one_process_ends_all_with_its_sentence(data, model, tmp_path):
    (tmp_path / "0").symlink_to(data)
    shell = Path(sys.executable).with_name("uniavgen")
    line = " ".join(f"'{word}'" for word in words(model, "FEATURES", tmp_path / "out"))
    line = line.replace("'FEATURES'", f'"{tmp_path}/$RANK"')
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "/bin/sh", "-c", f"exec '{shell}' {line}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("uniavgen:")]
    assert len(ours) == 1, done.stderr[-3000:]
    assert f"{tmp_path}/1" in ours[0]
    # It is torchrun's own.
    assert done.stderr.count("Traceback") == 1
    assert not (tmp_path / "out" / "transformer").exists()
