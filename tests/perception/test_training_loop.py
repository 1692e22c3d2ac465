"""The run that trains perception networks, and how their images are augmented."""

import math

import pytest
import torch
from torch import nn

from uniavgen.config import parse
from uniavgen.errors import ConfigError
from uniavgen.perception.layers import DepthwiseBlock, DilatedConvBlock
from uniavgen.training.objective import Objective
from uniavgen.training.perception.augmentation import Augmentation, recolour
from uniavgen.training.perception.run import PerceptionTrainConfig, initialise, train_network

PLAIN = Augmentation(side=12, zoom=(0.5, 0.5), shift=0.0, mirror=False)


def test_augmentation_keeps_range_and_follows_its_generator():
    images = torch.rand(3, 2, 20, 24) * 2 - 1
    augmentation = Augmentation(side=16, zoom=(0.7, 1.2), shift=0.2)
    first, again = (augmentation.apply(images, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (3, 2, 16, 16)
    assert first.abs().max() <= 1
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, augmentation.apply(images, torch.Generator().manual_seed(6)))


def test_crop_of_half_the_side_at_no_shift_is_the_middle():
    images = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(PLAIN.crop(images, torch.Generator()), images[..., 6:18, 6:18])


def test_recolour_changes_images_of_a_clip_alike_but_for_the_noise():
    clip = torch.zeros(2, 3, 16, 16)
    for seed in range(5):
        first, second = recolour(clip, torch.Generator().manual_seed(seed))
        assert (first - second).mean().abs() < 0.02


def test_initialise_makes_blocks_the_identity_and_follows_the_generator():
    for block, x in ((DepthwiseBlock(4), torch.rand(2, 4, 8, 8)), (DilatedConvBlock(4, 2), torch.rand(2, 4, 9))):
        initialise(block, torch.Generator().manual_seed(0))
        torch.testing.assert_close(block(x), x)
    one, two = nn.Linear(3, 4), nn.Linear(3, 4)
    for layer in (one, two):
        initialise(layer, torch.Generator().manual_seed(7))
    torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=0)


class Line(Objective[torch.Tensor]):
    """y = 2 x + 1."""

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)

    def batch(self, step: int) -> torch.Tensor:
        return torch.linspace(-1, 1, 32)[:, None]

    def losses(self, batch: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        return {"total": (self.model(batch) - 2 * batch - 1).square().mean()}


def test_train_network_finds_a_line_and_ends_in_eval_mode():
    line, num_steps = Line(), []
    config = PerceptionTrainConfig(steps=300, lr=0.05, weight_decay=0.0)
    train_network(line, config, [lambda record, state: num_steps.append(record.step)])
    assert num_steps == list(range(1, 301))
    assert line.model.weight.item() == pytest.approx(2, abs=0.02)
    assert line.model.bias.item() == pytest.approx(1, abs=0.02)
    assert not line.model.training


@pytest.mark.parametrize("steps", [1, 7, 40, 400])
def test_learning_rate_rises_over_a_twentieth_of_the_steps_and_falls_as_half_a_cosine(steps: int):
    schedule = PerceptionTrainConfig(steps=steps, lr=0.5).schedule()
    warmup_steps = max(steps // 20, 1)
    for step in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(steps - warmup_steps, 1)))
        expected = (step + 1) / warmup_steps if step < warmup_steps else cosine
        assert schedule.at(step) == pytest.approx(0.5 * expected)


def test_train_network_without_steps_is_refused():
    with pytest.raises(ConfigError, match="steps"):
        parse(PerceptionTrainConfig, {"steps": 0})
