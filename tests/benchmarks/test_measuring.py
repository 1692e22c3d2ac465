"""The measuring scripts run, small, through the code that a GPU would; no time is judged."""

import importlib
import json
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

import gpu
import interaction
from memory import WHOLE, filled, parts_of
from record import RESULTS
from uniavgen.models.interaction.config import WindowAligner
from uniavgen.models.interaction.windows import ClipGrid, attend_windows, plan_windows
from uniavgen.timebase import Timebase


@pytest.mark.slow
def test_gpu_benchmarks_run_at_small_size_on_a_cpu(tmp_path):
    parts = {part for part in gpu.SMALL if part not in ("step-cudnn", "step-flash", "step-flash3", "step-sage")}
    if find_spec("torchao") is None:
        parts.remove("step-int8")
    for part in parts:
        script, *words = gpu.SMALL[part].split()
        run = importlib.import_module(script.removesuffix(".py")).main
        run(["--preset", "nano", *words, "--out", str(tmp_path / f"{part}.json")])
    results = {file.stem: json.loads(file.read_text()) for file in tmp_path.iterdir()}
    for name, result in results.items():
        assert {"question", "settings", "versions", "device", "commit"} <= set(result)
        assert ("matmul_peak_flops_per_s" in result) == (name != "memory")
        assert str(tmp_path) not in json.dumps(result)
    *phases, clip = results["memory"]["phases"]
    # Weights are in the clip's line only: all of them are there in every phase.
    assert clip["phase"] == WHOLE
    assert len({clip[kind] - max(line[kind] for line in phases) for kind in ("predicted", "measured")}) == 1
    eager, batch = results["step"]["lines"]
    assert (eager["variant"], batch["variant"]) == ("eager", "batch")
    # Work is counted from the code, so the same at each variant; two kinds of step make the clip.
    assert eager["clip_flops"] == batch["clip_flops"] > sum(step["flops"] for step in eager["steps"])
    assert results["step-whole"]["lines"][0]["clip_is"] == "run whole"
    assert results["step-fp8"]["settings"]["weights"] == "fp8"
    assert len(results["scaling"]["lines"]) == 4
    (stage,) = results["train"]["lines"]
    share = stage["flops_per_clip"] * stage["clips_per_s"] / stage["matmul_peak_flops_per_s"]
    assert stage["share_of_peak"] == pytest.approx(share, rel=0.05, abs=1e-4)
    closed, plain = results["interaction"]["lines"][:2]
    assert closed["flops"] < plain["flops"]


@pytest.mark.slow
def test_failed_benchmark_is_a_row_and_the_others_run(tmp_path, capfd):
    gpu.main(["--small", "--part", "step-flash", "--part", "step-dubbing", "--out", str(tmp_path)])
    printed = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert printed == json.loads((tmp_path / "small.json").read_text())
    failed, ran = printed["parts"]
    assert (failed["part"], failed["result"]) == ("step-flash", "none")
    assert "attention 'flash'" in failed["reason"]
    assert (ran["part"], ran["result"], ran["reason"]) == ("step-dubbing", "step-dubbing-small.json", "")
    assert {file.name for file in tmp_path.iterdir()} == {"small.json", "step-dubbing-small.json"}


def test_measured_models_are_as_large_as_planned_ones():
    """Tables that two layers share are one table in both."""
    planned, measured = parts_of("nano").networks, filled(parts_of("nano")).networks
    assert planned.keys() == measured.keys()
    for name, part in planned.items():
        assert sum(p.nbytes for p in part.parameters()) == sum(p.nbytes for p in measured[name].parameters())


def test_recorded_peak_of_a_clip_is_within_a_tenth_of_the_prediction():
    clips = [line for line in json.loads((RESULTS / "memory.json").read_text())["phases"] if line["phase"] == WHOLE]
    assert [line["task"] for line in clips] == ["joint", "dubbing", "animation"]
    assert all(line["predicted"] == pytest.approx(line["measured"], rel=0.1) for line in clips)


def test_small_and_full_benchmarks_measure_the_same():
    assert set(gpu.FULL) - set(gpu.SMALL) == {
        "memory-int8", "step-batch", "step-compile", "step-compile-batch", "step-animation"
    }  # fmt: skip
    assert set(gpu.SMALL) < set(gpu.FULL)


def test_full_benchmark_without_a_gpu_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="no CUDA GPU was found"):
        gpu.main([])


def test_masked_attention_equals_gathered_windows():
    """In all frames whose window repeats no token at the clip's edges."""
    grid = ClipGrid(frames=8, height=2, width=3, tokens=181)
    plan = plan_windows(WindowAligner(), grid, 12, Timebase(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 8, 6, 2, 12, generator=generator)
    key, value = (torch.randn(1, 181, 2, 12, generator=generator) for _ in range(2))
    gathered, masked = attend_windows(query, key, value, plan), interaction.attend_masked(query, key, value, plan)
    inner = [frame for frame, window in enumerate(plan.token_index.tolist()) if len(set(window)) == len(window)]
    assert len(inner) >= 5
    assert torch.allclose(gathered[:, inner], masked[:, inner], atol=1e-5)
    assert not torch.allclose(gathered[:, 0], masked[:, 0], atol=1e-3)


def test_fractions_refer_to_measured_times(capsys, tmp_path):
    options = ["--size", "64x64", "--frames", "5", "--repeats", "1", "--out", str(tmp_path / "i.json")]
    interaction.main(options)
    result = SimpleNamespace(**json.loads((tmp_path / "i.json").read_text()))
    for line in result.lines[:4]:
        share = line["flops"] / line["median_s"] / result.matmul_peak_flops_per_s
        assert line["share_of_peak"] == pytest.approx(share, rel=0.01, abs=1e-4)
