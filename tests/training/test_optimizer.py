"""AdamW by parts: rates and decays go where they belong, and the rate rises and falls as it is set."""

from pathlib import Path

import pytest
import torch
from tiny_run import config, model, run

from uniavgen.errors import ConfigError
from uniavgen.models.parts import Part, part_of
from uniavgen.training.optimizer import OptimConfig, PartOptimConfig, build_optimizer, set_learning_rate


def test_parts_have_their_own_rate_and_weight_decay():
    trained = model()
    settings = OptimConfig(
        lr=1e-3,
        weight_decay=0.01,
        parts={Part.AUDIO: PartOptimConfig(lr_factor=0.5, weight_decay=0.2), Part.A2V: PartOptimConfig(lr_factor=3.0)},
    )
    optimizer = build_optimizer(trained, settings)
    set_learning_rate(optimizer, 0.1)
    names = {parameter: name for name, parameter in trained.named_parameters()}
    settings_of = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            settings_of[names[parameter]] = (group["lr"], group["weight_decay"])
    assert settings_of.keys() == {*names.values()}
    for name, parameter in trained.named_parameters():
        rate = {Part.AUDIO: 0.05, Part.A2V: 0.3}.get(part_of(name), 0.1)
        decay = {Part.AUDIO: 0.2}.get(part_of(name), 0.01) if parameter.ndim >= 2 else 0.0
        assert settings_of[name] == (pytest.approx(rate), decay), name


def test_part_of_half_the_rate_moves_half_as_far(folder: str, tmp_path: Path):
    """The first update of Adam is the rate times the sign of the gradient."""
    quiet = ("optim.weight_decay=0", "train.ema=0", "train.steps=1")
    moved = []
    for parts in ("{}", "{video: {lr_factor: 0.5}}"):
        one = run(folder, tmp_path, config(*quiet, f"optim.parts={parts}"))
        before = {name: value.clone() for name, value in one.state.model.named_parameters()}
        one.train()
        moved.append({name: value.detach() - before[name] for name, value in one.state.model.named_parameters()})
    for name, step in moved[0].items():
        factor = 0.5 if part_of(name) is Part.VIDEO else 1.0
        torch.testing.assert_close(moved[1][name], factor * step, rtol=1e-3, atol=1e-7)


def test_part_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match=r"optim\.parts\.head"):
        config("optim.parts={head: {lr_factor: 2}}")


def test_cosine_fall_of_a_stage_ends_at_its_share():
    schedule = OptimConfig(lr=2.0e-3, warmup_steps=4, decay_steps=10, decay="cosine", final_lr_share=0.1).schedule(20)
    rates = [schedule.at(step) for step in range(21)]
    assert rates[:5] == pytest.approx([0.5e-3, 1e-3, 1.5e-3, 2e-3, 2e-3])
    assert rates[10] == pytest.approx(2e-3)
    assert rates[15] == pytest.approx(2e-3 * 0.55)
    assert rates[20] == pytest.approx(2e-4)


def test_8bit_moments_without_torchao_are_refused(monkeypatch: pytest.MonkeyPatch, folder: str, tmp_path: Path):
    monkeypatch.setattr("uniavgen.training.optimizer.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs torchao.*uniavgen\[quant\]"):
        run(folder, tmp_path, config("optim.moments=8bit"))
