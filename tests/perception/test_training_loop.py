"""The loop that trains readers, and how their pictures are spoilt."""

import pytest
import torch
from torch import nn

from uniavgen.errors import ConfigError
from uniavgen.perception.layers import DepthwiseBlock, DilatedConvBlock
from uniavgen.training.perception.augmentation import Augmentation, recolour
from uniavgen.training.perception.loop import PerceptionTrainConfig, initialise, train

PLAIN = Augmentation(side=12, zoom=(0.5, 0.5), shift=0.0, mirror=False)


def test_distortion_keeps_range_and_follows_its_generator():
    pictures = torch.rand(3, 2, 20, 24) * 2 - 1
    distortion = Augmentation(side=16, zoom=(0.7, 1.2), shift=0.2)
    first, again = (distortion.apply(pictures, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (3, 2, 16, 16)
    assert first.abs().max() <= 1
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, distortion.apply(pictures, torch.Generator().manual_seed(6)))


def test_half_the_side_at_no_shift_is_the_middle():
    pictures = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(PLAIN.crop(pictures, torch.Generator()), pictures[..., 6:18, 6:18])


def test_pictures_of_a_clip_are_spoilt_alike_but_for_the_noise():
    clip = torch.zeros(2, 3, 16, 16)
    for seed in range(5):
        first, second = recolour(clip, torch.Generator().manual_seed(seed))
        assert (first - second).mean().abs() < 0.02


def test_fresh_blocks_change_nothing_and_weights_follow_the_generator():
    for block, x in ((DepthwiseBlock(4), torch.rand(2, 4, 8, 8)), (DilatedConvBlock(4, 2), torch.rand(2, 4, 9))):
        initialise(block, torch.Generator().manual_seed(0))
        torch.testing.assert_close(block(x), x)
    one, two = nn.Linear(3, 4), nn.Linear(3, 4)
    for layer in (one, two):
        initialise(layer, torch.Generator().manual_seed(7))
    torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=0)


def test_fitting_finds_a_line():
    layer, x = nn.Linear(1, 1), torch.linspace(-1, 1, 32)[:, None]
    losses = []
    config = PerceptionTrainConfig(steps=300, learning_rate=0.05, weight_decay=0.0)
    train([layer], lambda: (layer(x) - 2 * x - 1).square().mean(), config, lambda step, loss: losses.append(loss))
    assert len(losses) == 300
    assert layer.weight.item() == pytest.approx(2, abs=0.02)
    assert layer.bias.item() == pytest.approx(1, abs=0.02)
    assert not layer.training


def test_no_steps_are_refused():
    with pytest.raises(ConfigError, match="1 or more training steps"):
        PerceptionTrainConfig(steps=0)
