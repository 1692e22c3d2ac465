"""Every kind of damage has its own sentence: exit code 2, nothing written."""

import json
import os
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from made_up import joint, write_release, write_shards, write_vocabulary
from safetensors.torch import load_file, save_file

from uniavgen.apps.cli import main

STEM = "diffusion_pytorch_model"
SHARD, INDEX = f"{STEM}-00002-of-00003.safetensors", f"{STEM}.safetensors.index.json"
UMT5, VAE = "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.2_VAE.pth"
QUERY = "blocks.1.self_attn.q.weight"


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "source")


class _Code:
    """Runs something when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("code_was_run",)


def _cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def _edit_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _state(change):
    """Damage of the joint model's tensors."""

    def damage(folder: Path) -> None:
        state = joint()
        change(state)
        write_shards(folder, state)

    return damage


def _pickled(file: str, change):
    """Damage of a `.pth`."""

    def damage(folder: Path) -> None:
        state = torch.load(folder / file)
        torch.save(change(state) or state, folder / file)

    return damage


def _shard(change):
    """Damage of one shard behind the index's back."""

    def damage(folder: Path) -> None:
        state = load_file(folder / SHARD)
        change(state)
        save_file(state, folder / SHARD)

    return damage


def _rename(state) -> None:
    state["blocks.1.self_attn.query.weight"] = state.pop(QUERY)


TABLE = {
    # The joint model's files.
    "missing shard": (lambda f: (f / SHARD).unlink(), f"1 of the 3 shards that .*{INDEX} names are missing: {SHARD}"),
    "missing index": (lambda f: (f / INDEX).unlink(), r"lacks the joint model: .* found 3 shards without their index"),
    "no joint model": (
        lambda f: [file.unlink() for file in f.glob(f"{STEM}*")],
        "lacks the joint model: .* found nothing of that name",
    ),
    "index names a missing file": (
        lambda f: _edit_json(f / INDEX, weight_map={"a": "nowhere.safetensors"}),
        "1 of the 1 shards .* are missing: nowhere.safetensors",
    ),
    "index leads out of the folder": (
        lambda f: _edit_json(f / INDEX, weight_map={"a": "../x.safetensors"}),
        "no index of shards",
    ),
    "index without a map": (lambda f: _edit_json(f / INDEX, weight_map=None), "no index of shards"),
    "cut index": (lambda f: _cut(f / INDEX, 0.5), f"{INDEX} is not JSON"),
    "index is a list": (lambda f: (f / INDEX).write_text("[]"), "holds a list, expected a JSON object"),
    "shard of other tensors": (_shard(lambda s: s.popitem()), "its shards disagree about 1 tensors, first "),
    "cut shard": (lambda f: _cut(f / SHARD, 0.9), f"{SHARD} of [0-9]+ bytes is cut short or damaged"),
    "cut header": (
        lambda f: _cut(f / SHARD, 0.01),
        f"{SHARD} of .* cut short or damaged .invalid header len",
    ),
    "corrupt header": (
        lambda f: (f / SHARD).write_bytes(b"\xff" * 999),
        f"{SHARD} of 999 bytes is cut short",
    ),
    "empty shard": (
        lambda f: (f / SHARD).write_bytes(b""),
        f"{SHARD} of 0 bytes is cut short",
    ),
    "quantised shard": (_shard(lambda s: s.update(extra=torch.ones(2).char())), "extra in .* as I8, expected F32, F16"),
    "settings that are none": (lambda f: (f / "config.json").write_text("x"), "config.json is not JSON"),
    "settings of another type": (
        lambda f: (f / "config.json").write_text('{"num_heads": "two"}'),
        "config.json: num_heads: should be a valid integer",
    ),
    "no number of heads": (lambda f: (f / "config.json").unlink(), "width of 12 cannot be split into heads of 128"),
    # Its tensors.
    "foreign key": (_state(lambda s: s.update(extra=torch.ones(2))), "not the authors' joint model: 1 unknown: extra"),
    "renamed key": (
        _state(_rename),
        "joint model: 1 unknown: blocks.1.self_attn.query.weight; 1 missing: blocks.1.self_attn.q.weight",
    ),
    "missing key": (_state(lambda s: s.pop("audio_padding")), "joint model: 1 missing: audio_padding"),
    "wrong shape": (
        _state(lambda s: s.update({QUERY: torch.ones(12, 13)})),
        r"1 misshapen: blocks.1.self_attn.q.weight is \[12, 13\] instead of \[12, 12\]",
    ),
    "everything at once": (
        _state(lambda s: (s.pop("audio_padding"), s.update({"extra": torch.ones(2), QUERY: torch.ones(3)}))),
        r"1 unknown: extra; 1 missing: audio_padding; 1 misshapen: blocks.1",
    ),
    "a Wan model": (
        _state(lambda s: [s.pop(name) for name in list(s) if "a2v" in name]),
        "other weights than expected: they have no a2v_blocks.0",
    ),
    # The pickled files.
    "missing encoder": (lambda f: (f / UMT5).unlink(), f"lacks the caption encoder: expected {UMT5}"),
    "missing autoencoder": (lambda f: (f / VAE).unlink(), f"lacks the video autoencoder: expected {VAE}"),
    "cut encoder": (lambda f: _cut(f / UMT5, 0.8), f"{UMT5} is cut short or damaged "),
    "cut autoencoder": (lambda f: _cut(f / VAE, 0.5), f"{VAE} is cut short or damaged"),
    "a page instead of weights": (lambda f: (f / VAE).write_text("<html>"), f"{VAE} is no file of torch.save"),
    "pickled code": (
        _pickled(VAE, lambda s: s | {"x": _Code()}),
        f"{VAE} holds pickled code or objects beside tensors",
    ),
    "bare pickle": (lambda f: (f / VAE).write_bytes(pickle.dumps(_Code())), f"{VAE} is no file of torch.save"),
    "nested dictionary": (_pickled(UMT5, lambda s: {"model": s}), f"{UMT5} is no flat dictionary of tensors"),
    "integers": (_pickled(UMT5, lambda s: s | {"norm.weight": torch.ones(10).int()}), "norm.weight in .* torch.int32"),
    "foreign key of the encoder": (
        _pickled(UMT5, lambda s: s | {"lm_head.weight": torch.ones(2)}),
        "not umT5's encoder in Wan's layout: 1 unknown: lm_head.weight",
    ),
    "wrong shape of the autoencoder": (
        _pickled(VAE, lambda s: s | {"conv1.bias": torch.ones(5)}),
        r"not Wan2.2's VAE in its original layout: 1 misshapen: conv1.bias is \[5\] instead of \[96\]",
    ),
    "another autoencoder": (
        _pickled(VAE, lambda s: {name: value for name, value in s.items() if not name.startswith("decoder")}),
        "not Wan2.2's VAE .*1 missing: decoder.head.0.gamma",
    ),
    "an autoencoder of other sizes": (
        _pickled(VAE, lambda s: s | {"encoder.conv1.weight": torch.ones(3, 12, 3, 3, 3)}),
        "describes no Wan2.2's autoencoder|not Wan2.2's VAE",
    ),
    "other latents": (
        _pickled(VAE, lambda s: s | {"conv2.weight": torch.ones(16, 16, 1, 1, 1)}),
        "16 latent channels, Wan2.2's has 48; mean and deviation of other latents are not known",
    ),
    # Parts that do not belong together.
    "encoder of another width": (
        lambda f: write_codecs_of(f, caption_width=14),
        "width of the caption encoder is 14, the transformer expects 10; load parts of one model",
    ),
    # Tokenizer, vocoder.
    "missing tokenizer": (
        lambda f: shutil.rmtree(f / "google"),
        "lacks the tokenizer of captions: expected google/umt5-xxl with tokenizer.json",
    ),
    "empty tokenizer": (
        lambda f: [file.unlink() for file in (f / "google" / "umt5-xxl").iterdir()],
        "lacks the tokenizer of captions",
    ),
    "cut tokenizer": (lambda f: _cut(f / "google/umt5-xxl/tokenizer.json", 0.5), "tokenizer.json is not JSON"),
    "tokenizer of another encoder": (
        _pickled(UMT5, lambda s: s | {"token_embedding.weight": torch.ones(50, 10)}),
        "has [0-9]+ tokens, the caption encoder knows 50",
    ),
    "missing vocoder": (lambda f: shutil.rmtree(f / "code2wav_bigvgan_model"), "lacks the vocoder: expected code2wav"),
    "vocoder without weights": (
        lambda f: (f / "code2wav_bigvgan_model" / "model.safetensors").unlink(),
        "lacks the vocoder: expected model.safetensors",
    ),
    "vocoder of other settings": (
        lambda f: _edit_json(f / "code2wav_bigvgan_model" / "config.json", upsample_initial_channel=128),
        "not the release's vocoder: [0-9]+ misshapen",
    ),
    "vocoder of nonsense": (
        lambda f: _edit_json(f / "code2wav_bigvgan_model" / "config.json", upsample_rates="many"),
        "describes no BigVGAN",
    ),
    # The vocabulary, beside the folder.
    "short vocabulary": (
        lambda f: write_vocabulary(f.parent / "vocab.txt", ["a", "b"]),
        "has 2 symbols, the model's speech embedding has 96 rows for 95 and a filler",
    ),
    "repeated symbol": (lambda f: write_vocabulary(f.parent / "vocab.txt", ["a", "a"]), "must differ from each other"),
    "missing vocabulary": (lambda f: (f.parent / "vocab.txt").unlink(), "vocab.txt cannot be read: no such file"),
    "binary vocabulary": (
        lambda f: (f.parent / "vocab.txt").write_bytes(b"\xff\xfe\x00"),
        "vocab.txt is not UTF-8 text",
    ),
}


def write_codecs_of(folder: Path, caption_width: int) -> None:
    from made_up import write_codecs

    write_codecs(folder, caption_width)


def error_line(capsys, argv: list[str]) -> str:
    """Returns the one sentence that a command line is refused with."""
    code = main(argv)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uniavgen: ")]
    assert code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("damage", TABLE)
def test_damaged_source_is_an_error_and_nothing_is_written(capsys, tmp_path, monkeypatch, release, damage) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "release" / "source"
    shutil.copytree(release.parent, source.parent)
    change, words = TABLE[damage]
    change(source)
    before = sorted(tmp_path.rglob("*"))
    argv = ["convert", "release/source", "--vocab", "release/vocab.txt", "--out", "out/model"]
    line = error_line(capsys, argv)
    assert re.search(words, line), line
    assert sorted(tmp_path.rglob("*")) == before


ELSEWHERE = {
    "no such folder": (
        "nowhere --vocab VOCAB --out out",
        "there is no folder or file nowhere; give a folder, a file",
    ),
    "a file": ("VOCAB --vocab VOCAB --out out", "vocab.txt is no file of torch.save"),
    "no output": ("SOURCE --vocab VOCAB", "convert needs --out"),
    "no vocabulary": ("SOURCE --out out", "the release needs --vocab"),
    "output exists": ("SOURCE --vocab VOCAB --out SOURCE", "source exists already and is not overwritten"),
    "output inside the source": ("SOURCE --vocab VOCAB --out SOURCE/a/b", "would lie inside the source"),
    "output below a file": ("SOURCE --vocab VOCAB --out VOCAB/a", "cannot be written: .*vocab.txt is not a folder"),
    "output below a file, deep": ("SOURCE --vocab VOCAB --out VOCAB/a/b", "vocab.txt is not a folder"),
    "unwritable output": (
        "SOURCE --vocab VOCAB --out /proc/model",
        "cannot be written|could not be written|0.00 MB free",
    ),
    "revision of a folder": (
        "SOURCE --vocab VOCAB --out out --revision main",
        "on this machine and has no --rev",
    ),
    "vocabulary of a Wan model": (
        "SOURCE --vocab VOCAB --kind wan2.2-ti2v-5b --out out",
        "--vocab belongs to the release",
    ),
    "unknown kind": ("SOURCE --kind sora --out out", "--kind"),
    "wrong kind": ("SOURCE --kind wan2.1-t2v-1.3b --out out", "width of 12 cannot be split|not Wan2.1-T2V-1.3B"),
    "a link in a circle": ("CIRCLE --vocab VOCAB --out out", "CIRCLE cannot be read: too many levels of symbolic"),
    "output below a link in a circle": ("SOURCE --vocab VOCAB --out CIRCLE/a", "out|CIRCLE"),
    "shards of nothing": ("SOURCE --vocab VOCAB --out out --shard-mb 0", "--shard-mb"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_impossible_options_are_an_error(capsys, tmp_path, monkeypatch, release, case) -> None:
    monkeypatch.chdir(tmp_path)
    command, words = ELSEWHERE[case]
    (tmp_path / "CIRCLE").symlink_to("CIRCLE")
    vocab = str(release.parent / "vocab.txt")
    argv = [word.replace("SOURCE", str(release)).replace("VOCAB", vocab) for word in command.split()]
    line = error_line(capsys, ["convert", *argv])
    assert re.search(words, line), line
    assert [path.name for path in tmp_path.iterdir()] == ["CIRCLE"]
