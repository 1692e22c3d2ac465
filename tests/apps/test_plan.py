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
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys, *argv) -> str:
    code = main([str(word) for word in argv])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    return captured.err


def test_plan_of_base_needs_no_weights(capsys):
    printed = json.loads(plan(capsys, "--model", "base", "--size", "832x480", "--vram", 24, "--json"))
    assert (printed["mode"], printed["vram_gb"], printed["batch_passes"]) == ("turns", 24, True)
    assert [phase["phase"] for phase in printed["phases"]] == [
        "encode text", "encode picture", "sample", "decode video", "decode audio",
    ]  # fmt: skip
    assert printed["peak"] == max(sum(p["resident"].values()) + p["activations"] for p in printed["phases"])
    assert printed["peak"] < printed["needed"] <= 24 * 2**30


def test_plan_prints_mode_and_table(capsys, model):
    printed = plan(capsys, "--model", model, "--vram", 8, "--num-frames", 9)
    assert "joint, 32x32 px, 9 frames, a GPU" in printed
    assert "mode resident: all parts stay on the device; both guidance passes in one batch" in printed
    assert "  sample " in printed
    assert printed.rstrip().endswith("predicted, not measured")


def test_plan_on_cpu_is_resident(capsys):
    printed = plan(capsys, "--model", "nano", "--device", "cpu", "--num-frames", 9)
    assert "128x128 px, 9 frames, a CPU, in float32" in printed
    assert "mode resident" in printed


def test_plan_compares_waiting_weights_with_free_memory(capsys, monkeypatch):
    for free, verdict in ((64, "64.0 GB are free here\n"), (8, "8.0 GB are free here: too little\n")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free * 2**30))
        assert plan(capsys, "--vram", 24, "--size", "832x480").endswith(
            f"26.9 GB of weights wait in the computer's memory; {verdict}"
        )


def test_model_larger_than_host_memory_is_refused(capsys, model, inputs, tmp_path, monkeypatch):
    out = tmp_path / "a.mp4"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    more = ("--model", model, "--out", out, "--device", "cpu")
    printed = refused(capsys, "generate", "--image", inputs["face.png"], "--speech", "Hi.", *more)
    assert "GB, and 0.0 GB of this computer's memory are free; close other programs" in printed
    assert not out.exists()


def test_plan_has_no_decoding_phase_for_a_given_modality(capsys, model):
    common = ("--model", model, "--num-frames", 9, "--vram", 8)
    assert "decode video" not in plan(capsys, *common, "--task", "dubbing")
    assert "decode audio" not in plan(capsys, *common, "--task", "animation")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--vram 0", "memory of the GPU in GB, such as 24, got 0"),
        ("--vram 1e308", "got 1e+308; it is above 0 and at most 10000"),
        ("--vram 24 --num-frames 9999999999997", "num_frames must be 5 to 1025"),
        ("--vram 24 --size 99999999999999999968x32", "1 to 4096 px"),
        ("--vram 24 --size 320000x320000", "1 to 4096 px"),
        (f"--vram 24 --model {'n' * 300}", "no model 'nnn"),
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
def test_impossible_plan_is_one_sentence(capsys, argv, sentence):
    assert sentence in refused(capsys, "plan", *argv.split())


@pytest.mark.parametrize("option", ["--vram 24", "--mode turns"])
def test_vram_and_mode_are_refused_on_cpu(capsys, model, inputs, tmp_path, option):
    out = tmp_path / "a.mp4"
    more = ("--model", model, "--out", out, "--device", "cpu", *option.split())
    printed = refused(capsys, "generate", "--image", inputs["face.png"], "--speech", "Hi.", *more)
    assert "for a CUDA GPU, and on the device 'cpu' everything stays; leave them out" in printed
    assert not out.exists()


def test_model_is_loaded_with_its_offload_config(model):
    placement = OffloadConfig(mode=OFFLOAD_MODES["streamed-fp8"], device=torch.device("cpu"), decode_tile_px=32)
    pipeline = load_weights(model, str(model), placement)
    assert pipeline.offload == placement
    assert pipeline.transformer.blocks[0].video.attn1.to_q.weight.dtype == torch.float8_e4m3fn


def test_out_of_memory_is_a_config_error():
    with pytest.raises(ConfigError, match="allow less with --vram"), out_of_memory_as_error():
        raise torch.OutOfMemoryError


def test_plan_of_training_counts_memory_speed_and_days(capsys):
    words = ("--train", "base/stage2", "--size", "256x256", "--gpus", 8, "--vram", 80, "--json")
    printed = json.loads(plan(capsys, *words, "--set", "train.activation_checkpointing=1"))
    (bucket,) = printed["buckets"]
    assert (printed["shard_degree"], bucket["bucket"], bucket["fits"]) == (8, "256x256 px, 81 frames", True)
    # Weights, both moments and the average in float32.
    assert printed["checkpoint_bytes"] == 16 * printed["trained_parameters"]
    assert bucket["memory"]["weights"] == printed["trained_parameters"] * 4 // 8
    assert bucket["total"] == sum(bucket["memory"].values()) < bucket["required"]
    clips = printed["steps"] * bucket["clips"]
    assert bucket["days"] == pytest.approx(clips / bucket["clips_per_s"] / 86400, rel=0.01)
    assert bucket["clips_per_s"] * bucket["flops_per_clip"] == pytest.approx(8 * 0.4 * 989e12, rel=0.01)


def test_plan_of_training_refuses_what_does_not_fit_together(capsys):
    assert "3 GPUs cannot share a batch of 32 clips evenly" in refused(
        capsys, "plan", "--train", "base/stage2", "--gpus", 3
    )
    assert "no preset" in refused(capsys, "plan", "--train", "base/stage9")
