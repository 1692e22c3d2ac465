"""Adapters (LoRA) that were trained are saved apart from the model, and load into it again."""

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_run import config, model, run

from uniavgen.checkpoint.lora import ADAPTER_FILE
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.models.kernels import AttentionKernel, use_attention
from uniavgen.training.callbacks import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.stage import build_stage_run


def adapted_run(folder, tmp_path, *settings):
    data = run(folder, tmp_path).objective.dataset.data
    adapted = model()
    adapted.add_adapter(LoraConfig(r=3, lora_alpha=5, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return build_stage_run(config("train.steps=2", *settings), adapted, data, tmp_path, torch.device("cpu"))


def total(one, a_model):
    batch = one.objective.batch(0)
    one.objective.model = a_model.eval()
    with torch.no_grad():
        return one.objective.losses(batch, 0)["total"]


def test_trained_adapter_loads_into_a_fresh_model(folder, tmp_path):
    one = adapted_run(folder, tmp_path, 'stage.trainable=["*lora_*"]')
    before = {name: value.clone() for name, value in one.state.model.state_dict().items()}
    one.train()
    changed = {name for name, value in one.state.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(".lora_" in name for name in changed)
    save_weights(one.state, tmp_path / "transformer")
    assert [path.name for path in (tmp_path / "transformer").iterdir()] == [ADAPTER_FILE]
    assert all(".lora_" in name for name in load_file(tmp_path / "transformer" / ADAPTER_FILE))
    fresh = model()
    use_attention(fresh, AttentionKernel.MATH)
    unadapted = total(one, fresh)
    load_initial_weights(fresh, tmp_path)
    with one.state.ema.applied(one.state.model):
        expected = total(one, one.state.model)
    assert torch.equal(total(one, fresh), expected)
    assert not torch.equal(unadapted, expected)


def test_adapter_of_another_model_is_refused(folder, tmp_path):
    one = adapted_run(folder, tmp_path, 'stage.trainable=["*lora_*"]')
    save_weights(one.state, tmp_path / "transformer")
    other = model()
    del other.blocks[2]
    with pytest.raises(CheckpointError, match=r"layers are unknown, first blocks\.2\."):
        load_initial_weights(other, tmp_path)


def test_damaged_adapter_is_refused(folder, tmp_path):
    one = adapted_run(folder, tmp_path, 'stage.trainable=["*lora_*"]')
    save_weights(one.state, tmp_path / "transformer")
    file = tmp_path / "transformer" / ADAPTER_FILE
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="values that are no numbers"):
        load_initial_weights(model(), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        load_initial_weights(model(), tmp_path)


def test_weights_below_an_adapter_cannot_be_trained_with_it(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"only|below it"):
        adapted_run(folder, tmp_path)


def test_saved_model_whose_names_do_not_fit_is_refused(folder, tmp_path):
    """As diffusers writes a model with an adapter: `base_layer` names, which it would replace by new weights."""
    one = adapted_run(folder, tmp_path, 'stage.trainable=["*lora_*"]')
    one.state.model.save_pretrained(tmp_path / "transformer")
    with pytest.raises(CheckpointError, match="base_layer"):
        load_initial_weights(model(), tmp_path)
