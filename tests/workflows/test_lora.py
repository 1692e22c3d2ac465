"""Adapters in every generating command: clips are those of weights changed by hand, and record the adapters."""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from apps import builders
from uniavgen.apps.cli import main
from uniavgen.artifacts import checksum
from uniavgen.checkpoint.lora import ADAPTER_FILE
from uniavgen.errors import ConfigError
from uniavgen.inference.offload import OFFLOAD_MODES, OffloadConfig
from uniavgen.inference.request import Request
from uniavgen.media.mux import read_metadata
from uniavgen.tasks.table import Task
from uniavgen.workflows.fuse import fuse
from uniavgen.workflows.load import ModelLoader, load_pipeline
from uniavgen.workflows.load_config import LoadConfig

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
EXAMPLE = Path(__file__).parents[2] / "examples" / "person.png"
VIDEO, AUDIO = "blocks.1.video.attn1.to_v.weight", "blocks.0.audio.ffn.net.2.weight"
ALPHA = 3.0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = builders.save_pipeline(tmp_path_factory.mktemp("model") / "model")
    # What starts at zero would hide a change.
    state, generator = load_file(folder / WEIGHTS), torch.Generator().manual_seed(0)
    state = {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapters(model, tmp_path_factory) -> tuple[Path, Path]:
    """One of the video branch as musubi writes it, and one of this project for the audio branch."""
    folder = tmp_path_factory.mktemp("adapters")
    shapes = {name: value.shape for name, value in load_file(model / WEIGHTS).items()}
    generator = torch.Generator().manual_seed(1)

    def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        out, inner = shapes[name]
        return torch.randn(2, inner, generator=generator), torch.randn(out, 2, generator=generator)

    a, b = pair(VIDEO)
    stem = "lora_unet_blocks_1_self_attn_v"
    style = {f"{stem}.lora_down.weight": a, f"{stem}.lora_up.weight": b, f"{stem}.alpha": torch.tensor(ALPHA)}
    save_file(style, folder / "style.safetensors")
    a, b = pair(AUDIO)
    stem = AUDIO.removesuffix(".weight")
    (folder / "me" / "transformer").mkdir(parents=True)
    save_file({f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}, folder / "me" / "transformer" / ADAPTER_FILE)
    return folder / "style.safetensors", folder / "me"


@pytest.fixture(scope="module")
def changed_by_hand(model, adapters, tmp_path_factory) -> Path:
    """The model with style at 0.5 and me at -2."""
    folder = tmp_path_factory.mktemp("hand") / "model"
    shutil.copytree(model, folder)
    state, style = load_file(folder / WEIGHTS), load_file(adapters[0])
    me = load_file(adapters[1] / "transformer" / ADAPTER_FILE)
    a, b = (style[f"lora_unet_blocks_1_self_attn_v.lora_{name}.weight"] for name in ("down", "up"))
    state[VIDEO] += 0.5 * ALPHA / 2 * b @ a
    a, b = (me[f"{AUDIO.removesuffix('.weight')}.lora_{name}.weight"] for name in "AB")
    state[AUDIO] += -2.0 * b @ a
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def both(adapters: tuple[Path, Path]) -> list[str]:
    return [f"{adapters[0]}:0.5", f"{adapters[1]}:-2"]


def clip(pipeline) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    made = pipeline(Request(task=Task.JOINT, image=image, speech="Hi.", num_frames=5))
    return made.frames, made.mel


def test_clip_with_adapters_is_that_of_weights_changed_by_hand(model, adapters, changed_by_hand):
    expected = clip(load_pipeline(str(changed_by_hand), device="cpu"))
    pipeline = load_pipeline(str(model), device="cpu", lora=both(adapters))
    for got, value in zip(clip(pipeline), expected, strict=True):
        np.testing.assert_allclose(got, value, atol=1e-5)
    plain = load_pipeline(str(model), device="cpu")
    without = clip(plain)
    assert not np.allclose(without[1], expected[1], atol=1e-2)
    plain.fuse_lora(*both(adapters))
    for got, value in zip(clip(plain), clip(pipeline), strict=True):
        assert np.array_equal(got, value)


def metadata(file: Path) -> Mapping[str, Any]:
    settings = read_metadata(file)
    assert settings is not None
    return settings


def generate(model: Path, out: Path, *lora: str) -> Mapping[str, Any]:
    # A signed manifest holds random numbers; without marks the same clip is the same bytes.
    command = (
        f"generate --image {EXAMPLE} --speech Hi --model {model} --device cpu --num-frames 5 --no-mark --out {out}"
    )
    assert main([*command.split(), *(word for each in lora for word in ("--lora", each))]) == 0
    return metadata(out)


def test_clip_records_its_adapters_and_scales(model, adapters, tmp_path, capsys):
    settings = generate(model, tmp_path / "a.mp4", *both(adapters))
    files = (adapters[0], adapters[1] / "transformer" / ADAPTER_FILE)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert settings["lora"] == [
        {"name": "style.safetensors", "scale": 0.5, "sha256": digests[0]},
        {"name": "me", "scale": -2.0, "sha256": digests[1]},
    ]
    printed = capsys.readouterr().out
    assert "adapter style.safetensors: scale 0.5, one weight changed" in printed
    assert "adapter me: scale -2, one weight changed" in printed


def test_file_made_with_scale_zero_is_that_made_without_adapters(model, adapters, tmp_path):
    settings = [
        generate(model, tmp_path / "a.mp4"),
        generate(model, tmp_path / "b.mp4", f"{adapters[0]}:0", f"{adapters[1]}:0.0"),
    ]
    assert settings[0] == settings[1]
    assert "lora" not in settings[0]
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_fused_model_makes_the_clip_of_model_and_adapters(model, adapters, tmp_path, capsys):
    before = checksum(model)
    options = [word for each in both(adapters) for word in ("--lora", each)]
    assert main(["fuse", "--model", str(model), *options, "--out", str(tmp_path / "fused")]) == 0
    assert "adapter me: scale -2, one weight changed" in capsys.readouterr().out
    assert checksum(model) == before
    fused = load_pipeline(str(tmp_path / "fused"), device="cpu")
    unfused = load_pipeline(str(model), device="cpu", lora=both(adapters))
    for got, value in zip(clip(fused), clip(unfused), strict=True):
        assert np.array_equal(got, value)
    record = json.loads((tmp_path / "fused" / "lora.json").read_text())
    assert [each["scale"] for each in record["lora"]] == [0.5, -2.0]
    assert {name.relative_to(tmp_path / "fused") for name in (tmp_path / "fused").rglob("*")} == {
        *(name.relative_to(model) for name in model.rglob("*")),
        Path("lora.json"),
    }


def test_fused_weights_keep_their_precision(model, adapters, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(model, half)
    state = {name: value.half() for name, value in load_file(half / WEIGHTS).items()}
    save_file(state, half / WEIGHTS, metadata={"format": "pt"})
    fuse(str(half), both(adapters), tmp_path / "fused")
    got = load_file(tmp_path / "fused" / WEIGHTS)
    assert {name for name, value in state.items() if not torch.equal(got[name], value)} == {VIDEO, AUDIO}
    assert {value.dtype for value in got.values()} == {torch.float16}


def test_fusing_into_the_model_itself_or_without_adapters_is_refused(model, adapters, tmp_path, capsys):
    before = checksum(model)
    assert main(["fuse", "--model", str(model), "--lora", str(adapters[0]), "--out", str(model)]) == 2
    assert "which would be lost" in capsys.readouterr().err
    assert main(["fuse", "--model", str(model), "--lora", str(adapters[0]), "--out", str(model / "fused")]) == 2
    assert "lies in the model" in capsys.readouterr().err
    assert checksum(model) == before
    with pytest.raises(ConfigError, match="there is no adapter to fuse"):
        fuse(str(model), (), tmp_path / "out")


def test_damaged_model_is_not_fused(model, adapters, tmp_path, capsys):
    shutil.copytree(model, tmp_path / "model")
    state = load_file(model / WEIGHTS)
    state["blocks.0.video.attn1.to_k.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "model" / WEIGHTS, metadata={"format": "pt"})
    argv = ["fuse", "--model", str(tmp_path / "model"), "--lora", str(adapters[0]), "--out", str(tmp_path / "fused")]
    assert main(argv) == 2
    assert "blocks.0.video.attn1.to_k.weight in" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("mode", ["turns", "streamed", "streamed-fp8", "streamed-int8"])
def test_adapters_are_in_the_weights_before_they_are_moved_or_quantised(mode, model, adapters, changed_by_hand):
    if mode == "streamed-int8" and find_spec("torchao") is None:
        pytest.skip("torchao is not installed")
    pipeline = load_pipeline(str(model), device="cpu", lora=both(adapters))
    offload = OffloadConfig(mode=OFFLOAD_MODES[mode], device=torch.device("cpu"))
    expected = load_pipeline(str(changed_by_hand), device="cpu")
    for got, value in zip(clip(pipeline.configure(offload)), clip(expected.configure(offload)), strict=True):
        np.testing.assert_allclose(got, value, atol=2e-2 if "8" in mode else 1e-5)
    if mode != "turns":
        with pytest.raises(ConfigError, match="adapters come before the memory mode"):
            pipeline.fuse_lora(*both(adapters))


@pytest.fixture(scope="module")
def arguments(model, tmp_path_factory) -> dict[str, list[str]]:
    """Good arguments of every command that takes adapters."""
    folder = tmp_path_factory.mktemp("inputs")
    files = {name: str(file) for name, file in builders.save_inputs(folder).items()}
    prompt = {"id": "one", "image": files["face.png"], "speech": "Hi.", "caption": ""}
    (folder / "prompts.jsonl").write_text(json.dumps(prompt) + "\n")
    made = ["--model", str(model), "--out", "{}/a.mp4", "--speech", "Hi.", "--num-frames", "9", "--device", "cpu"]
    evaluated = ["--prompts", str(folder / "prompts.jsonl"), "--out", "{}/report", "--num-frames", "9"]
    return {
        "generate": ["--image", files["face.png"], *made],
        "dub": [files["film.mp4"], *made],
        "animate": ["--image", files["face.png"], "--audio", files["drive.wav"], *made],
        "continue": [files["film.mp4"], "--keep", "0.3", *made],
        "evaluate": ["--generate", str(model), "--device", "cpu", "--metrics", "truth", *evaluated],
        "fuse": ["--model", str(model), "--out", "{}/fused"],
    }


COMMANDS = ("generate", "dub", "animate", "continue", "evaluate", "fuse")


@pytest.mark.parametrize("command", COMMANDS)
def test_adapter_of_another_model_is_one_sentence_before_weights_are_read(
    command, arguments, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "other.safetensors"
    a, b = torch.ones(2, 5120), torch.ones(5120, 2)
    stems = (f"diffusion_model.blocks.{block}.self_attn.q" for block in (1, 39))
    save_file({f"{s}.lora_{m}.weight": t.clone() for s in stems for m, t in (("A", a), ("B", b))}, file)
    monkeypatch.setattr("uniavgen.workflows.load.load_components", lambda *_: pytest.fail("weights were read"))
    assert main([command, *(each.format(tmp_path) for each in arguments[command]), "--lora", str(file)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "is for another model: its diffusion_model.blocks.1.self_attn.q" in sentence
    assert "[5120, 5120]" in sentence
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_uses_adapters(command, arguments, adapters, tmp_path, capsys):
    argv = [command, *(each.format(tmp_path) for each in arguments[command]), "--lora", f"{adapters[0]}:0.5"]
    assert main(argv) == 0
    assert "adapter style.safetensors: scale 0.5, one weight changed" in capsys.readouterr().out
    for file in tmp_path.rglob("*.mp4"):
        assert [(each["name"], each["scale"]) for each in metadata(file)["lora"]] == [("style.safetensors", 0.5)]


def test_clips_of_a_report_are_not_mixed_with_those_of_another_scale(arguments, adapters, tmp_path, capsys):
    argv = ["evaluate", *(each.format(tmp_path) for each in arguments["evaluate"]), "--lora"]
    assert main([*argv, f"{adapters[0]}:0.5"]) == 0
    assert main([*argv, f"{adapters[0]}:0.25"]) == 2
    assert "was made with another lora" in capsys.readouterr().err
    finished = [word for word in argv if word not in ("--generate", arguments["evaluate"][1])]
    assert main([*finished, str(adapters[0])]) == 2
    assert "name it with --generate" in capsys.readouterr().err


def test_adapters_are_part_of_the_name_of_a_system(adapters):
    loader = ModelLoader(LoadConfig(device="cpu", lora=[*both(adapters), f"{adapters[0]}:0"]))
    assert loader.system == "nano+style+me"
