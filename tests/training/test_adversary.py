"""Judges learn to tell sounds apart, and move only by their own loss."""

import pytest
import torch

from uniavgen.errors import ConfigError
from uniavgen.training.codecs.adversary import (
    Adversary,
    AdversaryConfig,
    deceiving_loss,
    feature_loss,
    judging_loss,
)

SMALL = AdversaryConfig(periods=(2, 3), fft_sizes=(256,), width=4)


def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(SMALL)


def hiss() -> torch.Tensor:
    return 0.1 * torch.randn(4, 2_001, generator=torch.Generator().manual_seed(0))


def tone() -> torch.Tensor:
    return 0.14 * torch.sin(torch.arange(2_001) * 0.3 + torch.arange(4)[:, None])


def test_judges_learn_to_tell_hiss_from_a_tone():
    judges = adversary()
    optimizer = torch.optim.Adam(judges.parameters(), lr=1e-2)
    first = judging_loss(judges(hiss()), judges(tone()))
    for _ in range(30):
        optimizer.zero_grad()
        judging_loss(judges(hiss()), judges(tone())).backward()
        optimizer.step()
    assert judging_loss(judges(hiss()), judges(tone())) < 0.2 * first
    assert deceiving_loss(judges(hiss())) < deceiving_loss(judges(tone()))


def test_deceiving_moves_the_sound_and_no_judge():
    judges, sound = adversary(), tone().requires_grad_()
    opinions = judges.unmoved(sound)
    for one, other in zip(opinions, judges(sound), strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)
    (deceiving_loss(opinions) + feature_loss(judges(hiss()), opinions)).backward()
    assert sound.grad is not None
    assert sound.grad.abs().min(dim=0).values.max() > 0
    assert all(parameter.grad is None for parameter in judges.parameters())


def test_features_of_the_same_sound_match():
    judges = adversary()
    assert feature_loss(judges(hiss()), judges(hiss())) == 0
    assert feature_loss(judges(hiss()), judges(tone())) > 0.1


@pytest.mark.parametrize(
    ("wrong", "says"), [({"start": 1.5}, "0 to 1"), ({"periods": (), "fft_sizes": ()}, "needs periods")]
)
def test_nonsense_is_refused(wrong: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        AdversaryConfig(**wrong)
