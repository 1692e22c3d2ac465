"""The measuring scripts run, small, through the code that a GPU would; no time is judged."""

import json
from types import SimpleNamespace

import pytest
import torch

import gpu
import interaction
from uniavgen.models.interaction.config import WindowAligner
from uniavgen.models.interaction.windows import ClipGrid, attend_windows, plan_windows
from uniavgen.timebase import Timebase


@pytest.mark.slow
def test_all_that_waits_for_a_gpu_runs_small(tmp_path, capsys):
    gpu.main(["--small", "--out", str(tmp_path)])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = {file.stem.removesuffix("-small"): json.loads(file.read_text()) for file in tmp_path.iterdir()}
    assert {name for name, _, _ in gpu.SMALL} == {*kept}
    assert {name for name, _, _ in gpu.FULL} - {*kept} == {"step-animation"}
    assert last == kept["vae_decode"]
    for name, result in kept.items():
        assert {"question", "settings", "versions", "device", "commit"} <= set(result)
        assert ("matmul_peak_flops_per_s" in result) == (name != "memory")
        assert str(tmp_path) not in json.dumps(result)
    eager, batch = kept["step"]["lines"]
    assert (eager["variant"], batch["variant"]) == ("eager", "batch")
    # Work is counted from the code, so the same at each variant; two kinds of step make the clip.
    assert eager["clip_flops"] == batch["clip_flops"] > sum(step["flops"] for step in eager["steps"])
    assert kept["step-whole"]["lines"][0]["clip_is"] == "run whole"
    assert len(kept["scaling"]["lines"]) == 4
    closed, plain = kept["interaction"]["lines"][:2]
    assert closed["flops"] < plain["flops"]


def test_without_a_gpu_the_full_measurement_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="no CUDA GPU was found"):
        gpu.main([])


def test_a_mask_says_the_same_as_gathered_windows():
    """In all frames whose window repeats no token at the clip's edges."""
    grid = ClipGrid(frames=8, height=2, width=3, tokens=181)
    plan = plan_windows(WindowAligner(), grid, 12, Timebase(), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 8, 6, 2, 12, generator=generator)
    key, value = (torch.randn(1, 181, 2, 12, generator=generator) for _ in range(2))
    gathered, masked = attend_windows(query, key, value, plan), interaction.attend_masked(query, key, value, plan)
    inner = [frame for frame, window in enumerate(plan.index.tolist()) if len(set(window)) == len(window)]
    assert len(inner) >= 5
    assert torch.allclose(gathered[:, inner], masked[:, inner], atol=1e-5)
    assert not torch.allclose(gathered[:, 0], masked[:, 0], atol=1e-3)


def test_fractions_refer_to_what_was_measured(capsys, tmp_path):
    options = ["--size", "64x64", "--frames", "5", "--repeats", "1", "--out", str(tmp_path / "i.json")]
    interaction.main(options)
    result = SimpleNamespace(**json.loads((tmp_path / "i.json").read_text()))
    for line in result.lines[:4]:
        share = line["flops"] / line["median_s"] / result.matmul_peak_flops_per_s
        assert line["share_of_peak"] == pytest.approx(share, rel=0.01, abs=1e-4)
