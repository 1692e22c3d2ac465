"""FID and FVD: the distance against closed forms, and the way through a real TorchScript network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import WHOLE_SYSTEM, MetricContext
from uniavgen.evaluation.metrics.frechet import FrechetInceptionDistance, FrechetVideoDistance, frechet_distance
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.evaluation.protocol import System, run
from uniavgen.evaluation.store import ScoreStore
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.weights import ResolvedWeights

from .builders import plain_clip, write_noise


class _Means(nn.Module):
    """Mean of the three colours, called as Inception is."""

    def forward(self, pictures: Tensor, return_features: bool) -> Tensor:
        assert return_features
        return pictures.float().mean(dim=(2, 3))


class _Stretches(nn.Module):
    """Mean of the colours of 16 frames, called as I3D is."""

    def forward(self, videos: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        assert videos.shape[2] == 16
        return videos.mean(dim=(2, 3, 4))


def _context(name: str, path: Path, module: nn.Module | None = None) -> MetricContext:
    """A context with a module stored as a TorchScript network, or with whatever is at `path`."""
    if module is not None:
        torch.jit.script(module).save(str(path))
    return MetricContext(weights={name: ResolvedWeights(label=path.name, path=path)})


def test_distance_of_normals_with_diagonal_covariance():
    rng = np.random.default_rng(0)
    spread_a, spread_b, shift = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 1.5]), np.array([1.0, 0.0, -2.0])
    a, b = rng.normal(size=(2, 200_000, 3))
    expected = (shift**2).sum() + ((spread_a - spread_b) ** 2).sum()
    assert frechet_distance(a * spread_a, b * spread_b + shift) == pytest.approx(expected, rel=0.01)


def test_distance_does_not_depend_on_rotation_or_order_and_is_nothing_for_the_same():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 4)), rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)) + 1
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_distance_allows_fewer_clips_than_features():
    rng = np.random.default_rng(2)
    few = rng.normal(size=(3, 20))
    assert frechet_distance(few, few + 0.5) == pytest.approx(20 * 0.25)


def test_frechet_metric_gives_one_number_per_system_and_0_for_the_truth(tmp_path):
    for folder in ("true", "made"):
        for seed, name in enumerate("ab"):
            shifted = seed + 10 * (folder == "made")
            write_noise(tmp_path / folder / f"{name}.mp4", seed=shifted, seconds=1.5)
    prompts = PromptSet(prompts=[Prompt(id=name, video=tmp_path / "true" / f"{name}.mp4") for name in "ab"])
    metric = FrechetInceptionDistance(_context("inception", tmp_path / "means.pt", _Means()))
    systems = [System(name=name, folder=tmp_path / name) for name in ("true", "made")]
    for _ in range(2):
        true, generated = run(systems, prompts, [metric], ScoreStore(tmp_path / "out"), {"inception": "x"})
        assert true.whole["fid"] == pytest.approx(0, abs=1e-3)
        assert generated.whole["fid"] > 1
        assert generated.num_measured == 2
        assert all(not row.details for row in generated.rows)


def test_fvd_takes_windows_of_16_frames(tmp_path):
    metric = FrechetVideoDistance(_context("i3d", tmp_path / "stretches.pt", _Stretches()))
    video = write_noise(tmp_path / "a.mp4", seconds=3)
    prompt = Prompt(id="a", video=video)
    result = metric.measure(plain_clip(seconds=2.5), prompt)
    assert result.arrays["fvd/generated"].shape == (2, 3)
    assert result.arrays["fvd/true"].shape == (3, 3)
    assert isinstance(metric.combine([prompt], {"a": result.arrays})[WHOLE_SYSTEM]["fvd"], float)
    one = metric.measure(plain_clip(seconds=1), prompt)
    assert "fewer than 2 stretches" in metric.combine([prompt], {"a": one.arrays})[WHOLE_SYSTEM]["fvd"]
    with pytest.raises(NotMeasured, match="fewer than 16 frames"):
        metric.measure(plain_clip(seconds=0.5), prompt)
    with pytest.raises(NotMeasured, match="no video"):
        metric.measure(plain_clip(seconds=2), Prompt(id="a"))


def test_file_that_is_no_network_is_named(tmp_path):
    (tmp_path / "text.pt").write_text("no network")
    prompt = Prompt(id="a", video=write_noise(tmp_path / "a.mp4"))
    with pytest.raises(CheckpointError, match="no TorchScript network"):
        FrechetInceptionDistance(_context("inception", tmp_path / "text.pt")).measure(plain_clip(), prompt)
