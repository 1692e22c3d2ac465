"""The paper's metrics of pictures: RAFT, dynamic degree, DINO, on the real classes with random weights."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTModel

from uniavgen.errors import CheckpointError
from uniavgen.evaluation.metric import MetricContext
from uniavgen.evaluation.metrics.dynamic_degree import DynamicDegree, is_dynamic
from uniavgen.evaluation.metrics.motion import Motion
from uniavgen.evaluation.metrics.subject_consistency import SubjectConsistency, consistency
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.optical_flow import mean_of_fastest
from uniavgen.perception.raft import RADIUS, Raft, _coordinates, _lookup, _pyramid, _upsampled
from uniavgen.perception.weights import ResolvedWeights

from .builders import context_with, plain_clip

PROMPT = Prompt(id="a")


@pytest.fixture(scope="module")
def raft() -> Raft:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Raft().eval()


def test_raft_has_the_names_and_size_of_the_published_weights(raft):
    stored = raft.state_dict()
    shapes = {
        "fnet.conv1.weight": (64, 3, 7, 7),
        "fnet.layer2.0.downsample.0.weight": (96, 64, 1, 1),
        "cnet.norm1.running_mean": (64,),
        "cnet.layer3.0.norm3.weight": (128,),
        "cnet.layer3.0.downsample.1.weight": (128,),
        "update_block.encoder.convc1.weight": (256, 324, 1, 1),
        "update_block.gru.convq2.weight": (128, 384, 5, 1),
        "update_block.flow_head.conv2.weight": (2, 256, 3, 3),
        "update_block.mask.2.weight": (576, 256, 1, 1),
    }
    assert {name: tuple(stored[name].shape) for name in shapes} == shapes
    assert "fnet.norm1.weight" not in stored
    assert sum(value.numel() for value in raft.parameters()) == 5_257_536


def test_flow_has_the_size_of_the_picture_and_does_not_depend_on_the_batch(raft):
    rng = torch.Generator().manual_seed(1)
    first, second = (torch.rand(2, 3, 70, 64, generator=rng) * 255 for _ in range(2))
    with torch.no_grad():
        both = raft(first, second, num_lookups=2)
        again, alone = raft(first, second, num_lookups=2), raft(first[1:], second[1:], num_lookups=2)
    assert both.shape == (2, 2, 70, 64)
    torch.testing.assert_close(both, again, rtol=0, atol=0)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)


def test_look_up_finds_the_products_of_features_around_a_place():
    rng = torch.Generator().manual_seed(2)
    first, second = (torch.randn(1, 4, 8, 9, generator=rng) for _ in range(2))
    at = _coordinates(first).clone()
    at[:, 0] += 1
    result = _lookup(_pyramid(first, second), at)
    span = 2 * RADIUS + 1
    assert result.shape == (1, 4 * span**2, 8, 9)
    for y, x, dy, dx in ((3, 4, 0, 0), (3, 4, 1, -2), (6, 2, -3, 2), (0, 0, -2, 1)):
        row, column = y + dy, x + 1 + dx
        inside = 0 <= row < 8 and 0 <= column < 9
        expected = float(first[0, :, y, x] @ second[0, :, row, column]) / 2 if inside else 0.0
        # x is the outer index of the square.
        assert float(result[0, (dx + RADIUS) * span + dy + RADIUS, y, x]) == pytest.approx(expected, abs=1e-5)


def test_upsampling_is_a_convex_combination_of_neighbours():
    flow = torch.full((1, 2, 3, 4), 1.5)
    even = _upsampled(flow, torch.zeros(1, 576, 3, 4))
    assert even.shape == (1, 2, 24, 32)
    torch.testing.assert_close(even[..., 8:16, 8:16], torch.full((1, 2, 8, 8), 12.0))
    middle = torch.zeros(1, 9, 64, 3, 4)
    middle[:, 4] = 50
    exact = _upsampled(torch.arange(24.0).reshape(1, 2, 3, 4), middle.reshape(1, 576, 3, 4))
    torch.testing.assert_close(exact[0, 0, ::8, ::8], 8 * torch.arange(12.0).reshape(3, 4))


def test_still_clip_is_not_dynamic_and_foreign_weights_are_named(raft, tmp_path):
    torch.save({f"module.{name}": value for name, value in raft.state_dict().items()}, tmp_path / "raft.pth")
    frames = np.full((16, 64, 64, 3), 90, np.uint8)
    metric = DynamicDegree(context_with("raft", tmp_path / "raft.pth", "raft"))
    result = metric.measure(plain_clip(frames=frames), PROMPT)
    speeds = result.details["flow of the fastest 5 %, px"]
    assert len(speeds) == 7
    assert len({*speeds}) == 1
    assert result.scores["dd"] == float(speeds[0] > 6 * 64 / 256)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no weights of RAFT"):
        DynamicDegree(context_with("raft", tmp_path / "other.pth", "raft")).measure(plain_clip(), PROMPT)


@pytest.mark.parametrize(
    ("speeds", "fps", "side", "dynamic"),
    [
        # 16 frames: 4 of their steps must be faster than 6 px at 256.
        ([7.0] * 4 + [0.0] * 11, 16, 256, True),
        ([7.0] * 3 + [0.0] * 12, 16, 256, False),
        ([7.0] * 15, 16, 512, False),
        ([7.0] * 15, 4, 256, False),
        ([13.0] * 15, 4, 256, True),
    ],
)
def test_dynamic_degree_follows_vbenchs_rule(speeds, fps, side, dynamic):
    assert is_dynamic(speeds, Fraction(fps), side) is dynamic


def test_consistency_is_the_mean_of_both_cosines():
    features = np.array([[1.0, 0], [0, 2], [-3, 0]])
    # Frame 1: 0 and 0; frame 2: -1 with the first counts as 0, 0 with the previous.
    assert consistency(features) == 0
    assert consistency(np.array([[1.0, 0], [1, 1], [5, 0]])) == pytest.approx((np.sqrt(0.5) * 3 + 1) / 4)


def test_dino_features_of_random_weights_are_deterministic(tmp_path):
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, patch_size=32, image_size=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ViTModel(config, add_pooling_layer=False)
    network.save_pretrained(tmp_path / "dino")
    weights = ResolvedWeights(label="dino", path=tmp_path / "dino")
    clip = plain_clip(frames=np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), np.uint8))
    scores = [
        SubjectConsistency(MetricContext(weights={"dino": weights})).measure(clip, PROMPT).scores["sc"]
        for _ in range(2)
    ]
    assert scores[0] == scores[1]
    assert 0 <= scores[0] <= 1
    metric = SubjectConsistency(MetricContext(weights={"dino": weights}))
    assert metric._dino.embed(clip.frames).shape == (20, 8)
    np.testing.assert_allclose(metric._dino.embed(clip.frames)[3:5], metric._dino.embed(clip.frames[3:5]), atol=1e-5)
    still = plain_clip(frames=np.repeat(clip.frames[:1], 6, axis=0))
    assert metric.measure(still, PROMPT).scores["sc"] == pytest.approx(1)
    with pytest.raises(CheckpointError, match="no DINO model"):
        SubjectConsistency(context_with("dino", tmp_path, "none")).measure(clip, PROMPT)


def test_motion_is_the_speed_in_pixels_of_a_width_of_1024():
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed (extra eval)")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 34, 1), np.uint8).repeat(16, axis=0).repeat(16, axis=1).repeat(3, axis=2)
    frames = np.stack([coarse[:, 2 * k : 2 * k + 512] for k in range(8)])
    # 2 px of 512 are 4 of 1024.
    assert Motion(MetricContext()).measure(plain_clip(frames=frames), PROMPT).scores["motion"] == pytest.approx(
        4, rel=0.1
    )
    twice = plain_clip(frames=frames, fps=Fraction(32))
    assert Motion(MetricContext()).measure(twice, PROMPT).scores["motion"] == pytest.approx(8, rel=0.1)
    still = plain_clip(frames=frames[:1].repeat(5, axis=0))
    assert Motion(MetricContext()).measure(still, PROMPT).scores["motion"] == pytest.approx(0, abs=0.01)


def test_dynamic_degree_looks_at_the_fastest_twentieth():
    assert mean_of_fastest(np.arange(100.0).reshape(10, 10)) == pytest.approx(97)
    assert mean_of_fastest(np.array([[1.0, 3.0]])) == 3
