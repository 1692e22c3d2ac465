"""Files are safetensors' own, byte for byte, and known in length before they are written."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from uniavgen.checkpoint import files
from uniavgen.checkpoint.files import ConvertedTensor, WeightFile, weight_files
from uniavgen.checkpoint.stores import find_weights, read_pickled, read_safetensors

STATE = {
    "b.weight": torch.randn(5, 7),
    "a": torch.randn(11).bfloat16(),
    "z": torch.randn(3, 2, 2).half(),
    "aa": torch.randn(1, 13).bfloat16(),
    "one": torch.randn(()),
}


@pytest.fixture(params=["safetensors", "pth"])
def weights(request, tmp_path):
    """STATE in both kinds of files, where one tensor is not contiguous."""
    file = tmp_path / f"source.{request.param}"
    if request.param == "safetensors":
        save_file(STATE, file)
        return read_safetensors([file])
    torch.save(STATE | {"b.weight": STATE["b.weight"].T.contiguous().T}, file)
    return read_pickled(file, "it")


def placed(weights, dtype=None) -> list[ConvertedTensor]:
    return [
        ConvertedTensor(
            name=f"our.{name}", shape=stored.shape, dtype=dtype or stored.dtype, weights=weights, source_name=name
        )
        for name, stored in weights.tensors.items()
    ]


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk", [4, 2**24])
def test_bytes_are_those_of_safetensors(weights, tmp_path, monkeypatch, dtype, chunk) -> None:
    monkeypatch.setattr(files, "_CHUNK", chunk)
    file = WeightFile("w.safetensors", tuple(placed(weights, dtype)))
    expected = {f"our.{name}": value.to(dtype or value.dtype).contiguous() for name, value in STATE.items()}
    save_file(expected, tmp_path / "expected.safetensors", metadata={"format": "pt"})
    made = b"".join(file.chunks())
    assert made == (tmp_path / "expected.safetensors").read_bytes()
    assert len(made) == file.num_bytes


def test_shards_hold_everything_once_and_stay_below_their_size(weights, tmp_path) -> None:
    written = weight_files("part", "model", placed(weights), shard_bytes=60)
    for file in written:
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(b"".join(file.chunks()))
    *shards, index = written
    assert len(shards) > 2
    for shard in shards:
        assert len(shard.tensors) == 1 or sum(tensor.num_bytes for tensor in shard.tensors) <= 60
    listed = json.loads((tmp_path / index.path).read_text())["weight_map"]
    found = {key: value for shard in shards for key, value in load_file(tmp_path / shard.path).items()}
    assert listed.keys() == found.keys() == {f"our.{name}" for name in STATE}
    again = find_weights(tmp_path / "part", "model", "it")
    for name, value in STATE.items():
        assert torch.equal(again.read(f"our.{name}"), value)
        assert torch.equal(found[f"our.{name}"], value)
