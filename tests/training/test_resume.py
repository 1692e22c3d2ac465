"""A run that was stopped and went on equals one that was not, bit for bit; checkpoints are whole or not there."""

import json
import os
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import config, model, run

from uniavgen.errors import CheckpointError, OutputError
from uniavgen.training.checkpoint_files import checkpoints, remove_old
from uniavgen.training.finished_weights import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.state import restore

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
        one.checkpoint_callback.save(one.state)
    found = tmp_path / "checkpoints"
    assert [path.name for path in checkpoints(found)] == ["step-00000002", "step-00000003"]
    assert sorted(path.name for path in found.iterdir()) == ["step-00000002", "step-00000003"]


def test_step_that_is_saved_already_is_not_saved_again(folder, tmp_path):
    one = run(folder, tmp_path)
    one.checkpoint_callback.start(one.state)
    one.checkpoint_callback.save(one.state)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000000"]


def test_checkpoint_that_is_written_while_training_goes_on_holds_its_step(folder, tmp_path):
    waited, overlapped = run(folder, tmp_path / "waited"), run(folder, tmp_path / "overlapped")
    train_until(waited, 3)
    saved(waited)
    train_until(overlapped, 3)
    with overlapped.checkpoint_callback:
        overlapped.checkpoint_callback.start(overlapped.state)
        train_until(overlapped, 6)
    assert content(tmp_path / "waited") == content(tmp_path / "overlapped")


def test_checkpoint_is_saved_after_so_many_minutes(folder, tmp_path):
    one = run(folder, tmp_path, config("train.checkpoint_minutes=1.0e-6", "train.steps=3"))
    with one.checkpoint_callback:
        one.train([one.checkpoint_callback])
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000002", "step-00000003"]


def test_checkpoint_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        saved(run(folder, tmp_path))


def test_checkpoint_without_room_is_a_warning_and_the_next_one_is_complete(folder, tmp_path, caplog):
    one = run(folder, tmp_path, config("train.checkpoint_every=2"))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(record, _state):
        if record.step in (1, 3):
            one.checkpoint_callback.finish_quietly()
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if record.step == 1 else most, most))

    with one.checkpoint_callback:
        one.train([fill_disk, one.checkpoint_callback])
    assert [line for line in caplog.messages if "step-00000002 could not be written: file too large" in line]
    found = tmp_path / "checkpoints"
    assert sorted(path.name for path in found.iterdir()) == ["step-00000004", "step-00000006"]
    restore(one.state, found / "step-00000006", 6)


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def with_a_flipped_bit(file):
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def as_a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def written(text):
    return lambda file: file.write_text(text)


def changed(key, change):
    def damage(file):
        record = json.loads(file.read_text())
        record[key] = change(record[key])
        file.write_text(json.dumps(record))

    return damage


def as_an_earlier_version(file):
    (file.parent / "optimizer.safetensors").touch()
    file.write_text('{"step": 2, "settings": {}}')


WEIGHTS, RECORD = "shard-00001-model-00001-of-00001.safetensors", "train.json"
DAMAGE = [
    *((WEIGHTS, damage, "is damaged") for damage in (halved, with_a_flipped_bit, written(""))),
    *((name, as_a_pipe, "is a pipe") for name in (WEIGHTS, RECORD)),
    *((name, lambda file: file.unlink(), "cannot be read: no such file") for name in (WEIGHTS, RECORD)),
    (RECORD, as_an_earlier_version, "earlier version"),
    (RECORD, changed("files", lambda files: {**files, "../x": "0"}), "elsewhere"),
    (RECORD, changed("files", lambda files: dict.fromkeys(files, 1)), "is damaged (it has no checksums)"),
    (RECORD, changed("files", lambda files: {}), f"does not list {WEIGHTS}"),
    (RECORD, changed("samples", lambda samples: []), "is damaged (it has no samples)"),
    (RECORD, halved, "is not JSON"),
    (RECORD, written(""), "is empty"),
    (RECORD, written("[]"), "holds a list"),
    (RECORD, written("{}"), "has the step None"),
    (RECORD, written('{"step": 1000000000}'), "has the step 1000000000"),
    (RECORD, written('{"step": 2.0}'), "has the step 2.0"),
    (RECORD, written('{"step": true}'), "has the step True"),
    (RECORD, written("[" * 100_000), "nested too deeply"),
]


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run after two steps, and its checkpoint."""
    one = run(folder, tmp_path_factory.mktemp("trained"))
    train_until(one, 2)
    return one, saved(one)


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGE)
def test_damaged_checkpoint_is_refused_with_its_file(trained, tmp_path, name, damage, sentence):
    one, checkpoint = trained
    file = Path(shutil.copytree(checkpoint, tmp_path / checkpoint.name)) / name
    damage(file)
    with pytest.raises(CheckpointError, match=re.escape(sentence)) as error:
        restore(one.state, file.parent, 6)
    assert str(file.parent) in str(error.value)


OTHER_SAMPLES = {
    "train.seed": ["train.seed=1"],
    "train.batch_size": ["train.batch_size=4"],
    "data.weights": ["data.weights=[2]"],
    "stage.tasks": [AUDIO_ONLY],
}


@pytest.mark.parametrize("name", [*OTHER_SAMPLES])
def test_run_that_would_repeat_or_skip_samples_is_refused_unless_forced(folder, trained, tmp_path, name):
    _, checkpoint = trained
    other = run(folder, tmp_path, config(*OTHER_SAMPLES[name]))
    samples = other.checkpoint_callback.samples
    with pytest.raises(CheckpointError, match=rf"was trained with {name} .*, now it is .*--force"):
        restore(other.state, checkpoint, 6, samples)
    restore(other.state, checkpoint, 6, samples, force=True)
    assert other.state.step == 2


def test_settings_that_leave_the_samples_as_they_are_may_change(folder, trained, tmp_path):
    _, checkpoint = trained
    longer = run(folder, tmp_path, config("train.steps=9", "optim.lr=1.0e-5", "train.checkpoint_every=7"))
    restore(longer.state, checkpoint, 9, longer.checkpoint_callback.samples)


def test_checkpoint_of_another_model_is_refused(folder, trained, tmp_path):
    other = run(folder, tmp_path, config("train.ema=0"))
    with pytest.raises(CheckpointError, match="does not fit this run, which trains other weights"):
        restore(other.state, trained[1], 6)


def test_checkpoint_beyond_the_last_step_is_refused(folder, tmp_path):
    one = run(folder, tmp_path)
    train_until(one, 3)
    with pytest.raises(CheckpointError, match="beyond the last step of this run, 2"):
        restore(one.state, saved(one), 2)


def test_checkpoint_of_the_same_state_has_the_same_bytes(folder, tmp_path):
    for name in ("one", "two"):
        one = run(folder, tmp_path / name)
        train_until(one, 2)
        saved(one)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert sorted(content(tmp_path / "one")) == [f"checkpoints/step-00000002/{name}" for name in (WEIGHTS, RECORD)]


def test_parameters_that_no_loss_has_reached_have_moments_that_are_zero(folder, tmp_path):
    one = run(folder, tmp_path, config("stage.branches=audio", AUDIO_ONLY))
    train_until(one, 2)
    steps = [float(moments["step"]) for moments in one.state.optimizer.state.values()]
    assert len(steps) == len(list(one.state.model.parameters()))
    assert set(steps) == {0.0, 2.0}
    again = run(folder, tmp_path, config("stage.branches=audio", AUDIO_ONLY), seed=1)
    restore(again.state, saved(one), 6)
    expected, found = one.state.tensors(), again.state.tensors()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


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
