"""A run that was stopped and went on equals one that was not, bit for bit; checkpoints are whole or not there."""

import pytest
import torch
from tiny_run import config, model, run

from uniavgen.errors import CheckpointError, OutputError
from uniavgen.training.callbacks import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.state import checkpoints, restore, save


def train_until(the_run, step):
    """Train up to a step; task, losses and gradient norm of every step."""
    seen = []
    the_run.train([lambda record, state: seen.append((record.task, record.values))], lambda: the_run.state.step >= step)
    return seen


def saved(the_run):
    """Save now; the checkpoint's folder."""
    the_run.checkpoint_callback.save(the_run.state)
    return checkpoints(the_run.checkpoint_callback.folder)[-1]


def everything(state):
    moments = state.optimizer.state_dict()["state"]
    return {
        **{f"weight {name}": value for name, value in state.model.state_dict().items()},
        **{f"average {name}": value for name, value in state.ema.averages.items()},
        **{f"{name} {i}": value for i, held in moments.items() for name, value in held.items()},
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_run_equals_uninterrupted_run(folder, tmp_path, workers):
    whole = run(folder, tmp_path / "whole")
    losses = train_until(whole, 6)
    first = run(folder, tmp_path / "parts")
    before = train_until(first, 3)
    checkpoint = saved(first)
    second = run(folder, tmp_path / "parts", config(f"data.workers={workers}"), seed=1)
    restore(second.state, checkpoint)
    after = train_until(second, 6)
    assert before + after == losses
    expected, found = everything(whole.state), everything(second.state)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_only_the_last_checkpoints_are_kept_and_no_unfinished_one(folder, tmp_path):
    one = run(folder, tmp_path)
    for step in (1, 2, 3):
        one.state.step = step
        save(one.state, tmp_path, {}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    one = run(folder, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        save(one.state, tmp_path / "file", {}, keep=2)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "ema.safetensors", "train.json"])
def test_damaged_checkpoint_is_told(folder, tmp_path, name):
    one = run(folder, tmp_path)
    file = saved(one) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="does not fit this run"):
        restore(one.state, file.parent)


def test_next_stage_begins_with_the_averaged_weights_from_any_form(folder, tmp_path):
    one = run(folder, tmp_path)
    train_until(one, 2)
    checkpoint = saved(one)
    save_weights(one.state, tmp_path / "transformer")
    for source in (checkpoint, tmp_path, tmp_path / "transformer"):
        begun = model(seed=2)
        load_initial_weights(begun, source)
        parameters = dict(begun.named_parameters())
        assert all(torch.equal(parameters[name], average) for name, average in one.state.ema.averages.items())


def test_weights_that_are_missing_or_foreign_are_told(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no weights"):
        load_initial_weights(model(), tmp_path)
    one = run(folder, tmp_path, config("train.steps=2"))
    checkpoint = saved(one)
    other = model()
    del other.blocks[2]
    with pytest.raises(CheckpointError, match="do not fit this model"):
        load_initial_weights(other, checkpoint)
