"""A run that was stopped and went on equals one that was not, bit for bit; checkpoints are whole or not there."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import config, model, run

from uniavgen.errors import CheckpointError, OutputError
from uniavgen.training.callbacks import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.state import checkpoints, remove_old, restore, save

AUDIO_ONLY = "stage.tasks.ratios={joint: 0, reference_audio: 1, continuation: 0, dubbing: 0, animation: 0}"


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
    restore(second.state, checkpoint, 6)
    after = train_until(second, 6)
    assert before + after == losses
    expected, found = everything(whole.state), everything(second.state)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_save_keeps_the_last_checkpoints_and_no_unfinished_one(folder, tmp_path):
    one = run(folder, tmp_path)
    for step in (1, 2, 3):
        one.state.step = step
        save(one.state, tmp_path, {}, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_checkpoint_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    one = run(folder, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        save(one.state, tmp_path / "file", {}, keep=2)


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def with_nan(file):
    tensors = load_file(file)
    max(tensors.values(), key=torch.Tensor.numel).view(-1)[0] = float("nan")
    save_file(tensors, file)


def without_a_tensor(file):
    save_file(dict(list(load_file(file).items())[1:]), file)


def as_a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def written(text):
    return lambda file: file.write_text(text)


WEIGHTS = ("model.safetensors", "optimizer.safetensors", "ema.safetensors")
DAMAGE = [
    *((name, halved, "is damaged") for name in WEIGHTS),
    *((name, written(""), "is damaged") for name in WEIGHTS),
    *((name, with_nan, "not finite") for name in WEIGHTS),
    *((name, without_a_tensor, "does not fit this run") for name in WEIGHTS),
    *((name, as_a_pipe, "is a pipe") for name in (*WEIGHTS, "train.json")),
    *((name, lambda file: file.unlink(), "cannot be read: no such file") for name in (*WEIGHTS, "train.json")),
    ("optimizer.safetensors", lambda file: file.write_bytes(pickle.dumps({"state": {}})), "is damaged"),
    ("optimizer.safetensors", lambda file: file.rename(file.with_name("optimizer.pt")), "earlier version"),
    ("train.json", halved, "is not JSON"),
    ("train.json", written(""), "is empty"),
    ("train.json", written("[]"), "holds a list"),
    ("train.json", written("{}"), "has the step None"),
    ("train.json", written('{"step": 1000000000}'), "has the step 1000000000"),
    ("train.json", written('{"step": 2.0}'), "has the step 2.0"),
    ("train.json", written('{"step": true}'), "has the step True"),
    ("train.json", written("[" * 100_000), "nested too deeply"),
]


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGE)
def test_damaged_checkpoint_is_refused_with_its_file(folder, tmp_path, name, damage, sentence):
    one = run(folder, tmp_path)
    train_until(one, 2)
    file = saved(one) / name
    damage(file)
    with pytest.raises(CheckpointError, match=re.escape(sentence)) as error:
        restore(one.state, file.parent, 6)
    assert str(file.parent) in str(error.value)


def test_checkpoint_beyond_the_last_step_is_refused(folder, tmp_path):
    one = run(folder, tmp_path)
    train_until(one, 3)
    with pytest.raises(CheckpointError, match="beyond the last step of this run, 2"):
        restore(one.state, saved(one), 2)


def test_checkpoint_of_the_same_state_has_the_same_bytes(folder, tmp_path):
    states = [run(folder, tmp_path / name) for name in ("one", "two")]
    for one in states:
        train_until(one, 2)
    first, second = (saved(one) for one in states)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted([*WEIGHTS, "train.json"])
    assert [(first / name).read_bytes() for name in names] == [(second / name).read_bytes() for name in names]


def test_parameters_that_no_loss_has_reached_are_restored_without_moments(folder, tmp_path):
    one = run(folder, tmp_path, config("stage.branches=audio", AUDIO_ONLY))
    train_until(one, 2)
    trained = len(one.state.optimizer.state)
    assert 0 < trained < len(list(one.state.model.parameters()))
    again = run(folder, tmp_path, config("stage.branches=audio", AUDIO_ONLY), seed=1)
    restore(again.state, saved(one), 6)
    assert len(again.state.optimizer.state) == trained


def test_leftovers_of_killed_saves_are_removed(tmp_path):
    (tmp_path / ".step-00000001.partial").mkdir()
    (tmp_path / ".0123456789abcdef.lock").touch()
    for step in (2, 3, 4):
        (tmp_path / f"step-{step:08d}").mkdir()
    remove_old(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


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


def test_missing_and_foreign_weights_are_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no weights"):
        load_initial_weights(model(), tmp_path)
    one = run(folder, tmp_path, config("train.steps=2"))
    checkpoint = saved(one)
    other = model()
    del other.blocks[2]
    with pytest.raises(CheckpointError, match="do not fit this model"):
        load_initial_weights(other, checkpoint)
