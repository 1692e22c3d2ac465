"""`uniavgen train` of an adapter on a saved model, whose files stay as they are, and what is refused before weights."""

import string

import pytest
import torch
from tiny_run import config, model

from uniavgen.artifacts import checksum
from uniavgen.checkpoint.lora import is_lora_parameter
from uniavgen.checkpoint.lora_file import open_lora
from uniavgen.checkpoint.lora_keymap import LoraPart
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.training.checkpoint_files import checkpoints, stored_tensors
from uniavgen.training.config import TrainConfig
from uniavgen.workflows.train import open_stage, train_stage

LORA = ("lora={rank: 3, alpha: 5}", "train.steps=2", "train.batch_size=1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The tiny model as a folder, and its speech symbols."""
    path = tmp_path_factory.mktemp("base")
    model().save_pretrained(path / "model")
    symbols = [" ", *string.ascii_lowercase[-18:]]
    (path / "symbols.txt").write_text("\n".join(symbols) + "\n")
    return path


def train(folder, base, out, chosen: TrainConfig, init=("model",), *, until=None, resume=False) -> None:
    sources = [base / name for name in init]
    opened = open_stage(
        chosen, [folder], out, torch.device("cpu"), init=sources, vocabulary=base / "symbols.txt", resume=resume
    )
    with opened as run:
        finished = train_stage(run, out, stopped=lambda: run.stage.state.step == until)
    assert finished == (until is None)


def test_adapter_is_trained_on_a_model_whose_files_stay(folder, base, tmp_path):
    before = checksum(base / "model")
    train(folder, base, tmp_path / "one", config(*LORA))
    assert checksum(base / "model") == before
    saved = open_lora(tmp_path / "one")
    assert {(parts[LoraPart.DOWN].shape[0], saved.alpha(name)) for name, parts in saved.modules.items()} == {(3, 5.0)}
    train(folder, base, tmp_path / "again", config(*LORA))
    assert checksum(tmp_path / "again" / "transformer") == checksum(tmp_path / "one" / "transformer")
    train(folder, base, tmp_path / "more", config(*LORA), ("model", tmp_path / "one"))
    assert checksum(tmp_path / "more" / "transformer") != checksum(tmp_path / "one" / "transformer")


def test_adapter_needs_a_model_below_it(folder, base, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no --init; name the model by --init"):
        train(folder, base, tmp_path / "none", config(*LORA), ())
    train(folder, base, tmp_path / "one", config(*LORA))
    with pytest.raises(ConfigError, match=r"--init names the adapter .* alone; name the model"):
        train(folder, base, tmp_path / "two", config(*LORA), (tmp_path / "one",))


def test_what_does_not_fit_is_refused_before_weights_are_read(folder, base, tmp_path):
    train(folder, base, tmp_path / "one", config(*LORA))
    unread = base / "missing"
    wide = config(*LORA, "model.video.ffn_width=38")
    with pytest.raises(CheckpointError, match=r"the adapter .* is for another model"):
        train(folder, base, tmp_path / "two", wide, (unread, tmp_path / "one"))
    alone = config(*LORA, "model.interaction.layers=[]")
    with pytest.raises(ConfigError, match=r"no loss reaches a2v, v2a, .* out of lora\.targets"):
        train(folder, base, tmp_path / "two", alone, (unread,))


def test_checkpoint_holds_the_adapter_alone_and_goes_on_on_the_same_model(folder, base, tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    train(folder, base, whole, config(*LORA))
    train(folder, base, stopped, config(*LORA), until=1)
    saved = checkpoints(stopped / "checkpoints")[-1]
    names = {name.partition("/")[2].partition("/")[0] for name in stored_tensors(saved)}
    assert names
    assert all(is_lora_parameter(name) for name in names)
    model(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"was trained on another model than .*other; name that one, .*model"):
        train(folder, base, stopped, config(*LORA), (tmp_path / "other",), resume=True)
    train(folder, base, tmp_path / "begun", config(*LORA, "train.steps=1"), ("model", stopped))
    train(folder, base, stopped, config(*LORA), (), resume=True)
    assert checksum(stopped / "transformer") == checksum(whole / "transformer")
