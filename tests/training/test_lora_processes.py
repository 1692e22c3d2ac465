"""An adapter is trained by two processes as by one, whether blocks keep their activations or not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.forks import in_two_processes
from tiny_run import config, model, run, write_features

from uniavgen.checkpoint.lora import ADAPTER_FILE
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.training.finished_weights import save_weights
from uniavgen.training.sharding import full_tensor
from uniavgen.training.stage import build_stage_run

STEPS = 2
CASES = {
    "copies": ("sharding.shard_degree=1",),
    "recomputed": ("sharding.shard_degree=2", "train.activation_checkpointing=1"),
    "bfloat16": ("sharding.shard_degree=2", "lora.base=bf16", "train.precision=bf16"),
}


def train(folder: str, out: Path, context: ParallelContext, *settings: str):
    """The adapter that a run saves, by name, and the total of each step."""
    chosen = config("lora={rank: 3, alpha: 5}", "train.batch_size=4", f"train.steps={STEPS}", *settings)
    data = run(folder, out).objective.dataset.data
    one = build_stage_run(chosen, model(), data, out, torch.device("cpu"), context)
    totals = []
    one.train([lambda record, state: totals.append(full_tensor(record.losses["total"]).item())])
    save_weights(one.state, out / "transformer", context)
    return totals


def as_one_of_two(context: ParallelContext, folder: str, out: Path) -> dict[str, list[float]]:
    return {case: train(folder, out / case, context, *settings) for case, settings in CASES.items()}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory):
    """Folder of data, where two processes have trained every case, and the totals of the first."""
    base = tmp_path_factory.mktemp("lora")
    folder = write_features(base / "data")
    totals, _ = in_two_processes(as_one_of_two, folder, base)
    return folder, base, totals


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_adapter_of_one(two_processes, tmp_path, case):
    folder, base, totals = two_processes
    tolerance = 5e-3 if case == "bfloat16" else 1e-6
    expected = train(folder, tmp_path, SINGLE_PROCESS, *CASES[case])
    assert totals[case] == pytest.approx(expected, abs=tolerance)
    alone, shared = (load_file(out / "transformer" / ADAPTER_FILE) for out in (tmp_path, base / case))
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, rtol=0, atol=tolerance)
