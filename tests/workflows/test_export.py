"""Exporting joins a trained transformer and codecs; what is damaged, or would be lost, is refused first."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from apps import builders
from uniavgen.apps.cli import main
from uniavgen.checkpoint.lora import ADAPTER_FILE
from uniavgen.inference.pipeline import CODE, CODE_FILE
from uniavgen.workflows.load import load_pipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return builders.save_pipeline(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def run(model, tmp_path) -> Path:
    """A run's folder with a finished transformer."""
    shutil.copytree(model / "transformer", tmp_path / "run" / "transformer")
    return tmp_path / "run"


def export(run: Path, codecs: Path, out: Path, *more: str) -> int:
    return main(["export", "--transformer", str(run), "--parts", str(codecs), "--out", str(out), *more])


def refused(capsys, code: int) -> str:
    """Returns the one sentence of a command that was refused."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uniavgen: ")]
    assert (code, len(lines)) == (2, 1), lines
    return lines[0]


def test_exported_model_loads_and_names_no_path(model, run, tmp_path) -> None:
    out = tmp_path / "out"
    assert export(run, model, out, "--dtype", "float32", "--size", "32", "--set", "steps=3") == 0
    pipeline = load_pipeline(str(out), device="cpu")
    weights = load_file(model / "transformer" / WEIGHTS)
    assert all(torch.equal(value, weights[name]) for name, value in pipeline.transformer.state_dict().items())
    assert all("_name_or_path" not in json.loads(path.read_text()) for path in out.glob("*/config.json"))
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))
    assert (out / CODE_FILE).read_text() == CODE


def test_adapter_is_no_model_to_export(model, tmp_path, capsys) -> None:
    (tmp_path / "run" / "transformer").mkdir(parents=True)
    save_file({"a.lora_A.weight": torch.ones(1)}, tmp_path / "run" / "transformer" / ADAPTER_FILE)
    assert "holds an adapter; use it as --lora" in refused(capsys, export(tmp_path / "run", model, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_output_may_have_a_name_that_is_not_unicode(model, run, tmp_path) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert export(run, model, out) == 0
    assert (out / "tokenizer" / "tokenizer.json").is_file()


def _edit(name: str, **values):
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return damage


def _tensors(change):
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return damage


TRANSFORMERS = {
    "config of something else": (lambda f: (f / "config.json").write_bytes(b"GIF89a"), "config.json is not JSON"),
    "config in UTF-16": (lambda f: (f / "config.json").write_bytes("{}".encode("utf-16")), "is not UTF-8 text"),
    "empty config": (lambda f: (f / "config.json").write_bytes(b""), "config.json is empty"),
    "deep config": (lambda f: (f / "config.json").write_text('{"a":' * 10_000), "nested too deeply"),
    "config is a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "cannot be loaded"),
    "config that hides a method": (_edit("config.json", items=[1]), "has a setting called items"),
    "config that hides a class": (_edit("config.json", __class__="x"), "has a setting called __class__"),
    "config without end": (_edit("config.json", num_layers=10**9), "has num_layers 1000000000, expected 1 to"),
    "config of words": (_edit("config.json", video_config="wide"), "has video_config 'wide', expected no text"),
    "config without a part": (_edit("config.json", audio_config=None), "it has no ['audio_config']"),
    "no config": (lambda f: (f / "config.json").unlink(), "there is no finished transformer"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "cannot be loaded"),
    "cut weights": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:512]), "cut short or damaged"),
    "huge header": (lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 99), "cut short or damaged"),
    "a weight less": (_tensors(lambda s: s.pop("audio_stem.padding")), "1 are missing"),
    "a weight more": (_tensors(lambda s: s.update(extra=torch.ones(1))), "1 are unknown"),
    "no numbers": (_tensors(lambda s: s["audio_stem.padding"].fill_(float("nan"))), "values that are no numbers"),
    "an adapter": (_tensors(lambda s: s.update({"a.lora_A.weight": torch.ones(1)})), "LoRA adapter"),
    "device": (lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).symlink_to("/dev/zero")), "is a device"),
    "bare index": (lambda f: (f / f"{WEIGHTS}.index.json").write_text("{}"), "no index of shards"),
}


@pytest.mark.parametrize("damage", TRANSFORMERS)
def test_damaged_transformer_is_an_error_and_nothing_is_written(model, run, tmp_path, capsys, damage) -> None:
    change, words = TRANSFORMERS[damage]
    change(run / "transformer")
    assert words in refused(capsys, export(run, model, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


CODECS = {
    "caption encoder of words": (_edit("text_encoder/config.json", feed_forward_proj=-1), "has gated GELU units"),
    "no autoencoder": (lambda f: shutil.rmtree(f / "vae"), "has no folder 'vae'"),
    "tokenizer of lists": (
        lambda f: (f / "tokenizer" / "tokenizer.json").write_text('{"added_tokens": [[18]]}'),
        "tokenizer.json is no tokenizer",
    ),
    "endless captions": (_edit("tokenizer/tokenizer_config.json", model_max_length="x"), "has model_max_length x"),
    "padding of numbers": (_edit("tokenizer/tokenizer_config.json", pad_token=[1]), "has pad_token"),
    "infinite rate": (lambda f: (f / "vae" / "config.json").write_text('{"a": 1e400}'), "1e400 is no number"),
    "autoencoder without numbers": (lambda f: _tensors(lambda s: s["quant_conv.bias"].fill_(float("inf")))(f / "vae"),
                                    "values that are no numbers"),
}  # fmt: skip


@pytest.mark.parametrize("damage", CODECS)
def test_damaged_codecs_are_an_error_and_nothing_is_written(model, run, tmp_path, capsys, damage) -> None:
    codecs = shutil.copytree(model, tmp_path / "codecs")
    change, words = CODECS[damage]
    change(codecs)
    assert words in refused(capsys, export(run, codecs, tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codecs", "run"]


def test_output_that_would_replace_an_input_is_refused(model, run, tmp_path, capsys) -> None:
    codecs = shutil.copytree(model, tmp_path / "codecs")
    (tmp_path / "link").symlink_to(run)
    for out in (run, codecs, tmp_path, tmp_path / "link", run / "transformer"):
        assert "which would be lost" in refused(capsys, export(run, codecs, out))
    (tmp_path / "file").write_text("kept")
    (tmp_path / "circle").symlink_to("circle")
    for out in ("file", "circle"):
        assert "exists and is no folder" in refused(capsys, export(run, codecs, tmp_path / out))
    assert (tmp_path / "file").read_text() == "kept"
    assert (run / "transformer" / WEIGHTS).is_file()
