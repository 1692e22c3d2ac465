"""`uniavgen plan`, and what --vram and --mode mean where there is no GPU."""

import json
from types import SimpleNamespace

import psutil
import pytest
import torch

from uniavgen.apps.cli import main
from uniavgen.errors import ConfigError
from uniavgen.inference.offload import OFFLOAD_MODES, OffloadConfig
from uniavgen.workflows.fit import out_of_memory_as_error
from uniavgen.workflows.load import load_weights


def plan(capsys, *argv) -> str:
    code = main(["plan", *(str(word) for word in argv)])
    told = capsys.readouterr()
    assert code == 0, told.err
    return told.out


def refused(capsys, *argv) -> str:
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    return told.err


def test_the_papers_model_is_planned_without_its_weights(capsys):
    told = json.loads(plan(capsys, "--model", "base", "--size", "832x480", "--vram", 24, "--json"))
    assert (told["mode"], told["vram_gb"], told["batch_passes"]) == ("turns", 24, True)
    assert [phase["phase"] for phase in told["phases"]] == [
        "encode text", "encode picture", "sample", "decode video", "decode audio",
    ]  # fmt: skip
    assert told["peak"] == max(sum(p["resident"].values()) + p["activations"] for p in told["phases"])
    assert told["peak"] < told["needed"] <= 24 * 2**30


def test_a_plan_in_words(capsys, model):
    told = plan(capsys, "--model", model, "--vram", 8, "--num-frames", 9)
    assert "joint, 32x32 px, 9 frames, a GPU" in told
    assert "mode resident: all parts stay on the device; both guidance passes in one batch" in told
    assert "  sample " in told
    assert told.rstrip().endswith("predicted, not measured")


def test_on_a_cpu_everything_stays(capsys):
    told = plan(capsys, "--model", "nano", "--device", "cpu", "--num-frames", 9)
    assert "128x128 px, 9 frames, a CPU, in float32" in told
    assert "mode resident" in told


def test_weights_that_wait_are_told(capsys, monkeypatch):
    for free, told in ((64, "64.0 GB are free here\n"), (8, "8.0 GB are free here: too little\n")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free * 2**30))
        assert plan(capsys, "--vram", 24, "--size", "832x480").endswith(
            f"26.9 GB of weights wait in the computer's memory; {told}"
        )


def test_a_model_larger_than_the_computers_memory_is_refused(capsys, model, inputs, tmp_path, monkeypatch):
    out = tmp_path / "a.mp4"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    more = ("--model", model, "--out", out, "--device", "cpu")
    told = refused(capsys, "generate", "--image", inputs["face.png"], "--speech", "Hi.", *more)
    assert "GB, and 0.0 GB of this computer's memory are free; close other programs" in told
    assert not out.exists()


def test_what_is_given_is_not_decoded(capsys, model):
    common = ("--model", model, "--num-frames", 9, "--vram", 8)
    assert "decode video" not in plan(capsys, *common, "--task", "dubbing")
    assert "decode audio" not in plan(capsys, *common, "--task", "animation")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--vram 0", "memory of the GPU in GB, such as 24, got 0"),
        ("--vram nan", "memory of the GPU in GB"),
        ("--vram abc", "--vram"),
        ("--vram 24 --device cpu", "--device is cpu, where everything stays"),
        ("--mode streamed --device cpu", "say how much memory it has with --vram"),
        ("--vram 24 --mode huge", "no mode 'huge'; use one of resident, turns"),
        ("--vram 24 --size 1280x720", "multiples of 32 px, got 1280x720; use 1280x704"),
        ("--vram 24 --size 1000x700", "use 992x704"),
        ("--vram 24 --size large", "WIDTHxHEIGHT in pixels"),
        ("--vram 24 --model nano --size 64x64", "this model draws 128x128 px and nothing else"),
        ("--vram 24 --task sing", "no task 'sing'; use one of joint"),
        ("--vram 24 --num-frames 10", "use 9 or 13"),
        ("--vram 24 --model someone/something", "configs of 'someone/something' are not on this disk"),
        ("--vram 24 --model none", "no model 'none'"),
        ("--vram 0.5 --model nano --num-frames 9", "no smaller picture fits either"),
    ],
)
def test_plans_that_cannot_be(capsys, argv, sentence):
    assert sentence in refused(capsys, "plan", *argv.split())


@pytest.mark.parametrize("option", ["--vram 24", "--mode turns"])
def test_memory_of_a_gpu_means_nothing_on_a_cpu(capsys, model, inputs, tmp_path, option):
    out = tmp_path / "a.mp4"
    more = ("--model", model, "--out", out, "--device", "cpu", *option.split())
    told = refused(capsys, "generate", "--image", inputs["face.png"], "--speech", "Hi.", *more)
    assert "for a CUDA GPU, and on the device 'cpu' everything stays; leave them out" in told
    assert not out.exists()


def test_a_model_is_loaded_into_its_place(model):
    placement = OffloadConfig(mode=OFFLOAD_MODES["streamed-fp8"], device=torch.device("cpu"), decode_tile_px=32)
    pipeline = load_weights(model, str(model), placement)
    assert pipeline.offload == placement
    assert pipeline.transformer.blocks[0].video.attn1.to_q.weight.dtype == torch.float8_e4m3fn


def test_a_gpu_that_is_full_is_told():
    with pytest.raises(ConfigError, match="allow less with --vram"), out_of_memory_as_error():
        raise torch.OutOfMemoryError
