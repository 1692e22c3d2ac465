"""Files of weights are safetensors' own; shards hold every tensor once and stay below their size."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from uniavgen.checkpoint.conversion import ConvertedTensor, OutputFile, weight_files
from uniavgen.checkpoint.weights import Weights, find_weights, read_tensors, read_weights
from uniavgen.errors import CheckpointError

STATE = {
    "b.weight": torch.randn(5, 7),
    "a": torch.randn(11).bfloat16(),
    "z": torch.randn(3, 2, 2).half(),
    "aa": torch.randn(1, 13).bfloat16(),
    "one": torch.randn(()),
}


@pytest.fixture(params=["safetensors", "pth"])
def weights(request, tmp_path) -> Weights:
    """STATE in both kinds of files, where one tensor is not contiguous."""
    file = tmp_path / f"source.{request.param}"
    if request.param == "safetensors":
        save_file(STATE, file)
    else:
        torch.save(STATE | {"b.weight": STATE["b.weight"].T.contiguous().T}, file)
    return read_weights(file)


def converted(weights: Weights, dtype: torch.dtype | None = None) -> tuple[ConvertedTensor, ...]:
    return tuple(
        ConvertedTensor(name=f"our.{name}", source=stored, dtype=dtype or stored.dtype)
        for name, stored in weights.items()
    )


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float16])
def test_file_of_weights_has_the_values_of_its_source_in_the_given_type(weights, tmp_path, dtype) -> None:
    OutputFile("w.safetensors", converted(weights, dtype)).write(tmp_path / "w.safetensors")
    written = load_file(tmp_path / "w.safetensors")
    assert written.keys() == {f"our.{name}" for name in STATE}
    for name, value in STATE.items():
        assert written[f"our.{name}"].dtype == (dtype or value.dtype)
        assert torch.equal(written[f"our.{name}"], value.to(dtype or value.dtype))


def test_shards_hold_everything_once_and_stay_below_their_size(weights, tmp_path) -> None:
    written = weight_files("part", "model", converted(weights), shard_bytes=60)
    (tmp_path / "part").mkdir()
    for file in written:
        file.write(tmp_path / file.path)
    *shards, index = written
    assert len(shards) > 2
    for shard in shards:
        assert len(shard.content) == 1 or shard.num_bytes <= 60
    listed = json.loads((tmp_path / index.path).read_text())["weight_map"]
    stored = {key: value for shard in shards for key, value in load_file(tmp_path / shard.path).items()}
    assert listed.keys() == stored.keys() == {f"our.{name}" for name in STATE}
    values = read_tensors(find_weights(tmp_path / "part", "it", "model.safetensors"))
    for name, value in STATE.items():
        assert torch.equal(values[f"our.{name}"], value)
        assert torch.equal(stored[f"our.{name}"], value)


@pytest.mark.parametrize("ending", ["bin", "pth"])
def test_shards_of_torch_save_are_read_by_their_index(tmp_path, ending) -> None:
    names, listed = sorted(STATE), {}
    for k in range(2):
        file = f"pytorch_model-{k + 1:05d}-of-00002.{ending}"
        torch.save({name: STATE[name] for name in names[k::2]}, tmp_path / file)
        listed |= dict.fromkeys(names[k::2], file)
    with pytest.raises(CheckpointError, match=r"lacks it: .* found 2 shards without their index"):
        find_weights(tmp_path, "it", "pytorch_model.bin")
    index = tmp_path / f"pytorch_model.{ending}.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    for weights in (read_weights(index), find_weights(tmp_path, "it", "other.safetensors", ("*",))):
        values = read_tensors(weights)
        assert values.keys() == STATE.keys()
        assert all(torch.equal(values[name], value) for name, value in STATE.items())
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=f"1 of the 2 shards .* are missing: {file}"):
        read_weights(index)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused(tmp_path, bad) -> None:
    save_file({"a": torch.ones(3), "b.weight": torch.tensor([[1.0, bad]])}, tmp_path / "source.safetensors")
    file = OutputFile("w.safetensors", converted(read_weights(tmp_path / "source.safetensors")))
    with pytest.raises(CheckpointError, match=r"b.weight in .*source.safetensors holds values that are no numbers"):
        file.write(tmp_path / "w.safetensors")


def test_values_beyond_the_range_of_the_given_type_are_refused(tmp_path) -> None:
    save_file({"a": torch.tensor([1e30])}, tmp_path / "source.safetensors")
    file = OutputFile("w.safetensors", converted(read_weights(tmp_path / "source.safetensors"), torch.float16))
    with pytest.raises(CheckpointError, match=r"a as torch.float16 in .* holds values that are no numbers"):
        file.write(tmp_path / "w.safetensors")


def test_weights_that_changed_since_their_names_were_read_are_refused(tmp_path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "source.safetensors")
    weights = read_weights(tmp_path / "source.safetensors")
    save_file({"a": torch.ones(4)}, tmp_path / "source.safetensors")
    with pytest.raises(CheckpointError, match="has changed while it was read"):
        read_tensors(weights)


WRAPPED = [
    "module.{}",
    "model.{}",
    "model.diffusion_model.{}",
    "diffusion_model.{}",
    "_orig_mod.{}",
    "_fsdp_wrapped_module.{}",
    "module._orig_mod.{}",
    "_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module.{}",
]


@pytest.mark.parametrize("pattern", WRAPPED)
def test_prefixes_of_wrappers_and_trainers_are_dropped(tmp_path, pattern) -> None:
    save_file({pattern.format(name): value for name, value in STATE.items()}, tmp_path / "source.safetensors")
    weights = read_weights(tmp_path / "source.safetensors")
    inner = "blocks.0." if "blocks" in pattern else ""
    assert weights.keys() == {f"{inner}{name}" for name in STATE}
    values = read_tensors(weights)
    assert all(torch.equal(values[f"{inner}{name}"], value) for name, value in STATE.items())


def test_prefix_of_some_names_only_is_part_of_them(tmp_path) -> None:
    save_file({"model.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "source.safetensors")
    assert read_weights(tmp_path / "source.safetensors").keys() == {"model.a", "b"}


def test_name_under_two_prefixes_is_refused(tmp_path) -> None:
    save_file({"a": torch.ones(1), "_orig_mod.a": torch.ones(1)}, tmp_path / "source.safetensors")
    with pytest.raises(CheckpointError, match="is there under two prefixes"):
        read_weights(tmp_path / "source.safetensors")


ADAPTERS = [
    "transformer.blocks.0.attn1.to_q.lora_A.weight",
    "base_model.model.blocks.0.attn1.to_q.lora_A.default.weight",
    "lora_unet_blocks_0_self_attn_q.lora_down.weight",
    "diffusion_model.blocks.0.cross_attn.k.lora_up.weight",
    "blocks.0.attn1.processor.to_q_lora.down.weight",
    "lycoris_blocks_0.lokr_w1",
    "lycoris_blocks_0.hada_w1_a",
]


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapter_is_recognised_by_its_names(tmp_path, name) -> None:
    save_file({name: torch.ones(2, 2), "blocks.0.alpha": torch.ones(())}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a.safetensors is a LoRA adapter and no model .*--init"):
        read_weights(tmp_path / "a.safetensors")
