"""Every kind of damage of a model folder has a sentence, exit code 2, and makes no clip."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from uniavgen.apps.cli import main
from uniavgen.workflows.model_files import find_model

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE, TRANSFORMER, VOCODER = (f"{name}/{WEIGHTS}" for name in ("vae", "transformer", "vocoder"))
UMT5 = "text_encoder/model.safetensors"
Damage = Callable[[Path], object]


def content(path: str, data: bytes) -> Damage:
    return lambda folder: (folder / path).write_bytes(data)


def cut(path: str, keep: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: int(len(data) * keep)])

    return damage


def header(path: str, text: bytes) -> Damage:
    """Replaces a header of safetensors."""
    return content(path, len(text).to_bytes(8, "little") + text)


def setting(path: str, **values: object) -> Damage:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(stored | values))

    return damage


def nested(path: str, section: str, **values: object) -> Damage:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / path).read_text())
        stored[section] |= values
        (folder / path).write_text(json.dumps(stored))

    return damage


def without(path: str, *keys: str) -> Damage:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps({key: stored[key] for key in stored if key not in keys}))

    return damage


def tensors(path: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / path)
        change(state)
        save_file(state, folder / path, metadata={"format": "pt"})

    return damage


def value(number: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state[min(state)].view(-1)[0].fill_(number)


def adapter(state: dict[str, torch.Tensor]) -> None:
    state.clear()
    state["blocks.0.video.attn1.to_q.lora_A.weight"] = torch.ones(2, 2)


def gone(path: str) -> Damage:
    return lambda folder: shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()


def pipe(path: str) -> Damage:
    return lambda folder: ((folder / path).unlink(), os.mkfifo(folder / path))


def link(path: str, target: str) -> Damage:
    return lambda folder: (gone(path)(folder), (folder / path).symlink_to(target))


def server(path: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / path).unlink()
        here = Path.cwd()
        os.chdir((folder / path).parent)
        try:
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind((folder / path).name)
        finally:
            os.chdir(here)

    return damage


CONFIGS = ["model_index.json", *(f"{name}/config.json" for name in ("vae", "text_encoder", "transformer", "vocoder"))]
TEXTS = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "cut": b'{"a": ',
    "not UTF-8": b'{"a": "\xff"}',
    "NaN": b'{"a": NaN}',
    "deep": b'{"a":' + b"[" * 100_000,
}
DAMAGES: dict[str, Damage] = {
    **{f"index {kind}": content("model_index.json", text) for kind, text in TEXTS.items()},
    **{f"tokenizer {kind}": content("tokenizer/tokenizer.json", text) for kind, text in TEXTS.items()},
    **{f"{path} {kind}": content(path, TEXTS[kind]) for path in CONFIGS[1:] for kind in ("empty", "NaN")},
    **{f"{path} missing": gone(path) for path in CONFIGS},
    **{f"{path} pipe": pipe(path) for path in (*CONFIGS, VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} missing": gone(path) for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} cut": cut(path, 0.9) for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} empty": content(path, b"") for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} NaN": tensors(path, value(float("nan"))) for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} infinite": tensors(path, value(float("inf"))) for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{f"{path} lacks one": tensors(path, lambda s: s.pop(min(s))) for path in (VAE, UMT5, TRANSFORMER, VOCODER)},
    **{
        f"{path} has one more": tensors(path, lambda s: s.update(more=torch.ones(1)))
        for path in (VAE, UMT5, TRANSFORMER, VOCODER)
    },
    **{f"{path} adapter": tensors(path, adapter) for path in (TRANSFORMER, UMT5)},
    **{f"{name} missing": gone(name) for name in ("vae", "text_encoder", "transformer", "vocoder", "tokenizer")},
    "speech tokenizer missing": gone("speech_tokenizer"),
    "huge header": content(VAE, b"\xff" * 99),
    "header no JSON": header(VAE, b"{]"),
    "header no object": header(VAE, b"[1]"),
    "header without offsets": header(VAE, b'{"a":{"dtype":"F32","shape":[1]}}'),
    "header beyond the file": header(VAE, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
    "header of a negative shape": header(VAE, b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
    "weights are a socket": server(UMT5),
    "weights are a device": link(VAE, "/dev/zero"),
    "weights link to themselves": link(VAE, WEIGHTS),
    "component links to itself": link("vae", "vae"),
    "weights are a folder": lambda folder: ((folder / VAE).unlink(), (folder / VAE).mkdir()),
    "weights are a page": content(TRANSFORMER, b"<html>not found</html>"),
    "another class": setting("model_index.json", _class_name="StableDiffusionPipeline"),
    "another component": setting("model_index.json", vae=["diffusers", "AutoencoderKL"]),
    "no component": setting("model_index.json", transformer=[None, None]),
    "component of this computer": setting("model_index.json", text_encoder=["os", "system"]),
    "component no list": setting("model_index.json", tokenizer=5),
    **{
        f"tokenizer of class {name}": setting("model_index.json", tokenizer=["transformers", name])
        for name in (10**30, None, "", "NoSuchTokenizer", "UMT5EncoderModel")
    },
    **{
        f"{path} key {key}": setting(path, **{key: 1})
        for path in ("model_index.json", "vae/config.json", "vocoder/config.json", "transformer/config.json")
        for key in ("__class__", "items")
    },
    "no sampling": without("model_index.json", "sampling_config"),
    "unknown sampling": setting("model_index.json", sampling_config={"steps": "many"}),
    "no picture": setting("model_index.json", picture_config=None),
    **{
        f"{path} {key} {number}": setting(path, **{key: number})
        for path, key in (
            ("transformer/config.json", "num_layers"),
            ("vae/config.json", "num_res_blocks"),
            ("vae/config.json", "scale_factor_spatial"),
            ("vae/config.json", "z_dim"),
            ("text_encoder/config.json", "num_layers"),
            ("text_encoder/config.json", "num_heads"),
            ("vocoder/config.json", "num_layers"),
            ("vocoder/config.json", "num_fft"),
        )
        for number in (-1, 10**9, "many")
    },
    "no number of layers": setting("transformer/config.json", num_layers=None),
    "half a layer": setting("vocoder/config.json", num_layers=1.5),
    "fewer layers than weights": setting("text_encoder/config.json", num_layers=1),
    "dim_mult of nothing": setting("vae/config.json", dim_mult=[]),
    "latents without spread": setting("vae/config.json", latents_std=[0.0] * 16),
    "latents of another number": setting("vae/config.json", latents_mean=[0.0] * 3),
    "patch of words": setting("vae/config.json", patch_size="two"),
    "levels of words": setting("vae/config.json", temperal_downsample="no"),
    "no settings of the video": without("transformer/config.json", "video_config"),
    "settings of the video no object": setting("transformer/config.json", video_config=[]),
    "negative heads": nested("transformer/config.json", "video_config", num_heads=-2),
    "odd head": nested("transformer/config.json", "audio_config", head_dim=7),
    "no frames": nested("transformer/config.json", "timebase_config", fps="0"),
    "frames of words": nested("transformer/config.json", "timebase_config", fps="many"),
    "sample rate": nested("transformer/config.json", "timebase_config", sample_rate_hz=10**12),
    "hop": nested("transformer/config.json", "timebase_config", hop=0),
    "layer that is not there": nested("transformer/config.json", "interaction_config", layers=[99]),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("image") / "face.png"
    Image.new("RGB", (64, 64), (90, 120, 200)).save(path)
    return path


def test_damage_table_has_many_rows():
    assert len(DAMAGES) >= 72


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_model_makes_no_clip(tmp_path, capsys, image, name):
    folder = tmp_path / "model"
    shutil.copytree(Path(str(find_model("nano"))), folder)
    DAMAGES[name](folder)
    argv = ["generate", "--model", str(folder), "--image", str(image), "--speech", "Hi.", "--steps", "1"]
    code = main([*argv, "--num-frames", "5", "--device", "cpu", "--out", str(tmp_path / "a.mp4")])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uniavgen: ")]
    assert (code, len(lines)) == (2, 1), lines
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert main(["plan", "--model", str(folder), "--vram", "24"]) in (0, 2)
