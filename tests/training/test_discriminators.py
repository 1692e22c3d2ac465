"""Discriminators learn to tell sounds apart, and move only by their own loss."""

import pytest
import torch

from uniavgen.errors import ConfigError
from uniavgen.training.codecs.discriminators import (
    DiscriminatorConfig,
    Discriminators,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)

SMALL = DiscriminatorConfig(periods=(2, 3), fft_sizes=(256,), width=4)


def discriminators() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(SMALL)


def hiss() -> torch.Tensor:
    return 0.1 * torch.randn(4, 2_001, generator=torch.Generator().manual_seed(0))


def tone() -> torch.Tensor:
    return 0.14 * torch.sin(torch.arange(2_001) * 0.3 + torch.arange(4)[:, None])


def test_discriminators_learn_to_separate_noise_from_a_tone():
    parts = discriminators()
    optimizer = torch.optim.Adam(parts.parameters(), lr=1e-2)
    first = discriminator_loss(parts(hiss()), parts(tone()))
    for _ in range(30):
        optimizer.zero_grad()
        discriminator_loss(parts(hiss()), parts(tone())).backward()
        optimizer.step()
    assert discriminator_loss(parts(hiss()), parts(tone())) < 0.2 * first
    assert adversarial_loss(parts(hiss())) < adversarial_loss(parts(tone()))


def test_adversarial_loss_reaches_the_waveform_and_no_discriminator():
    parts, sound = discriminators(), tone().requires_grad_()
    maps = parts.frozen(sound)
    for one, other in zip(maps, parts(sound), strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
    (adversarial_loss(maps) + feature_matching_loss(parts(hiss()), maps)).backward()
    assert sound.grad is not None
    assert sound.grad.abs().min(dim=0).values.max() > 0
    assert all(parameter.grad is None for parameter in parts.parameters())


def test_feature_matching_loss_of_equal_waveforms_is_zero():
    parts = discriminators()
    assert feature_matching_loss(parts(hiss()), parts(hiss())) == 0
    assert feature_matching_loss(parts(hiss()), parts(tone())) > 0.1


def test_discriminators_without_periods_and_fft_sizes_are_refused():
    with pytest.raises(ConfigError, match="need periods"):
        DiscriminatorConfig(periods=(), fft_sizes=())
