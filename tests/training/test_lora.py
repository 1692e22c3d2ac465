"""An adapter (LoRA) is trained in place of the model: what moves, what is saved, what is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import SETTINGS, config, model, run

from uniavgen.checkpoint.lora import ADAPTER_FILE, is_lora_parameter
from uniavgen.checkpoint.lora_file import open_lora
from uniavgen.checkpoint.lora_fusing import fit_lora, fuse_lora
from uniavgen.errors import CheckpointError, ConfigError
from uniavgen.models.kernels import AttentionKernel, use_attention
from uniavgen.models.parts import Part, part_of
from uniavgen.training.checkpoint_files import stored_tensors
from uniavgen.training.finished_weights import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.stage import build_stage_run
from uniavgen.training.state import restore

RANK, ALPHA = 3, 5
LORA = (f"lora={{rank: {RANK}, alpha: {ALPHA}}}", "train.steps=3")


def adapted_run(folder, tmp_path, *settings, initial=None):
    data = run(folder, tmp_path).objective.dataset.data
    chosen = config(*LORA, *settings)
    return build_stage_run(chosen, initial or model(), data, tmp_path, torch.device("cpu"))


def total(one, a_model):
    batch = one.objective.batch(0)
    one.objective.model = a_model.eval()
    with torch.no_grad():
        return one.objective.losses(batch, 0)["total"]


def base_weights(a_model):
    return {
        name.replace(".base_layer", ""): value.clone()
        for name, value in a_model.state_dict().items()
        if not is_lora_parameter(name)
    }


def test_new_adapter_changes_nothing(folder, tmp_path):
    plain = model()
    use_attention(plain, AttentionKernel.MATH)
    one = adapted_run(folder, tmp_path)
    assert torch.equal(total(one, one.state.model), total(one, plain))


def test_training_moves_every_layer_of_the_adapter_and_nothing_else(folder, tmp_path):
    one = adapted_run(folder, tmp_path, f"lora.targets=[{', '.join(Part)}]", "stage.losses.duration=0.5")
    before = {name: value.clone() for name, value in one.state.model.state_dict().items()}
    one.train()
    after = one.state.model.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    adapter = {name for name in after if is_lora_parameter(name)}
    # A begins to move when B is no longer zero.
    assert {name for name in adapter if ".lora_B." in name} <= moved <= adapter
    assert {part_of(name) for name in moved} == {*Part}
    assert one.state.ema.averages.keys() == adapter
    untouched = model().state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in base_weights(one.state.model).items())


def test_targets_are_the_layers_of_the_named_parts(folder, tmp_path):
    one = adapted_run(folder, tmp_path, "lora.targets=[a2v, speech_text]")
    adapted = {name.partition(".lora_")[0] for name in one.state.ema.averages}
    interacting = SETTINGS.interaction.layer_list(SETTINGS.num_layers)
    attention = {f"interaction.a2v.{name}" for name in ("to_q", "to_k", "to_v", "to_out")}
    layers = range(SETTINGS.audio.speech.num_layers)
    speech = {f"audio_stem.speech_encoder.blocks.{layer}.pwconv{number}" for layer in layers for number in (1, 2)}
    blocks = {f"blocks.{layer}.{name}" for layer in interacting for name in attention}
    assert adapted == {"audio_stem.speech_proj", *blocks, *speech}


def test_trained_adapter_loads_into_a_fresh_model(folder, tmp_path):
    one = adapted_run(folder, tmp_path)
    one.train()
    save_weights(one.state, tmp_path / "transformer")
    assert [path.name for path in (tmp_path / "transformer").iterdir()] == [ADAPTER_FILE]
    assert all(is_lora_parameter(name) for name in load_file(tmp_path / "transformer" / ADAPTER_FILE))
    fresh = model()
    use_attention(fresh, AttentionKernel.MATH)
    unadapted = total(one, fresh)
    load_initial_weights(fresh, tmp_path)
    with one.state.ema.applied(one.state.model):
        expected = total(one, one.state.model)
    assert torch.equal(total(one, fresh), expected)
    assert not torch.equal(unadapted, expected)


def test_trained_adapter_is_added_to_weights_by_the_name_of_its_run(folder, tmp_path):
    one = adapted_run(folder, tmp_path, f"lora.targets=[{', '.join(Part)}]")
    one.train()
    save_weights(one.state, tmp_path / "transformer")
    fresh = model()
    use_attention(fresh, AttentionKernel.MATH)
    shapes = {name: tuple(value.shape) for name, value in fresh.named_parameters()}
    fuse_lora(fresh.named_parameters(), [fit_lora(open_lora(tmp_path), shapes)])
    with one.state.ema.applied(one.state.model):
        expected = total(one, one.state.model)
    torch.testing.assert_close(total(one, fresh), expected)
    assert not torch.equal(total(one, model()), expected)


def test_saved_adapter_is_trained_on(folder, tmp_path):
    one = adapted_run(folder, tmp_path)
    one.train()
    save_weights(one.state, tmp_path / "transformer")
    saved = model()
    load_initial_weights(saved, tmp_path)
    two = adapted_run(folder, tmp_path / "two", initial=saved)
    for (name, value), (other, average) in zip(
        sorted(two.state.ema.averages.items()), sorted(one.state.ema.averages.items()), strict=True
    ):
        assert name.partition(".lora_")[0] == other.partition(".lora_")[0]
        assert torch.equal(value, average)
    two.train()


@pytest.mark.parametrize("base", ["fp32", "int8"])
def test_resumed_adapter_equals_an_uninterrupted_one_and_its_checkpoint_holds_no_base(folder, tmp_path, base):
    pytest.importorskip("torchao")
    settings = (f"lora.base={base}", f"train.precision={'fp32' if base == 'fp32' else 'bf16'}")
    whole = adapted_run(folder, tmp_path / "whole", *settings)
    whole.train([lambda record, state: whole.checkpoint_callback.save(state) if record.step == 2 else None])
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-00000002"
    assert all(is_lora_parameter(name) for name in stored_tensors(checkpoint))
    resumed = adapted_run(folder, tmp_path / "resumed", *settings)
    restore(resumed.state, checkpoint, 3)
    resumed.train()
    expected, found = whole.state.tensors(), resumed.state.tensors()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("other", ["lora.rank=4", "lora.alpha=6", "lora.targets=[video]"])
def test_saved_adapter_of_other_settings_is_not_trained_on(folder, tmp_path, other):
    save_weights(adapted_run(folder, tmp_path).state, tmp_path / "transformer")
    saved = model()
    load_initial_weights(saved, tmp_path)
    with pytest.raises(
        ConfigError, match=r"rank 3, alpha 5, [0-9]+ layers of a2v, audio, v2a, video; .*make them equal"
    ):
        adapted_run(folder, tmp_path / "two", other, initial=saved)


def test_adapter_of_another_model_is_refused(folder, tmp_path):
    save_weights(adapted_run(folder, tmp_path).state, tmp_path / "transformer")
    other = model()
    del other.blocks[2]
    with pytest.raises(CheckpointError, match=r"layers are unknown, first blocks\.2\."):
        load_initial_weights(other, tmp_path)


def test_damaged_adapter_is_refused(folder, tmp_path):
    save_weights(adapted_run(folder, tmp_path).state, tmp_path / "transformer")
    file = tmp_path / "transformer" / ADAPTER_FILE
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="values that are no numbers"):
        load_initial_weights(model(), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        load_initial_weights(model(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["lora.rank=0"], "lora.rank"),
        (["lora.alpha=-1"], "lora.alpha"),
        (["lora.targets=[]"], "lora.targets"),
        (["lora.targets=[video, video]"], "each part at most once"),
        (["lora.targets=[mouth]"], "lora.targets"),
        (["lora.base=bf16"], "train.precision"),
        (['stage.trainable=["blocks.*"]'], "only the adapter is trained"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config(*LORA, *settings)


def test_part_that_the_model_lacks_is_refused(folder, tmp_path):
    alone = model(settings=config("model.interaction.layers=[]").model)
    with pytest.raises(ConfigError, match=r"lora\.targets has a2v, v2a, of which this model has no linear layer"):
        adapted_run(folder, tmp_path, initial=alone)


def test_adapter_without_settings_is_refused(folder, tmp_path):
    one = adapted_run(folder, tmp_path)
    with pytest.raises(ConfigError, match="the settings have no lora"):
        adapted_run(folder, tmp_path, "lora=null", initial=one.state.model)


def test_saved_model_whose_names_do_not_fit_is_refused(folder, tmp_path):
    """As diffusers writes a model with an adapter: `base_layer` names, which it would replace by new weights."""
    one = adapted_run(folder, tmp_path)
    one.state.model.save_pretrained(tmp_path / "transformer")
    with pytest.raises(CheckpointError, match="base_layer"):
        load_initial_weights(model(), tmp_path)


@pytest.mark.parametrize(("base", "error"), [("bf16", 0.01), ("fp8", 0.05), ("int8", 0.02)])
def test_base_in_fewer_bytes_gives_nearly_the_same_losses_and_stays(folder, tmp_path, base, error):
    if base in ("fp8", "int8"):
        pytest.importorskip("torchao", reason="the extra 'quant' is not installed")
    exact = adapted_run(folder, tmp_path)
    one = adapted_run(folder, tmp_path, f"lora.base={base}", "train.precision=bf16", initial=model())
    assert total(one, one.state.model) == pytest.approx(float(total(exact, exact.state.model)), rel=error)
    query = one.state.model.blocks[0].video.attn1.to_q.base_layer.weight
    stored = sum(getattr(query, part).element_size() for part in ("qdata",)) if base != "bf16" else query.element_size()
    assert stored == {"bf16": 2, "fp8": 1, "int8": 1}[base]
    assert one.state.model.blocks[0].video.scale_shift_table.dtype == torch.float32
    assert {value.dtype for value in one.state.ema.averages.values()} == {torch.float32}
    before = {name: value.clone() for name, value in one.state.ema.averages.items()}
    one.state.model.train()
    one.train()
    moved = {name for name, value in one.state.ema.averages.items() if not torch.equal(value, before[name])}
    assert {name for name in before if ".lora_B." in name} <= moved
