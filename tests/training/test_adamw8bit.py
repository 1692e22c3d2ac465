"""8-bit moments train as float32 ones do, skip steps without a trace, and do not depend on the number of processes."""

from pathlib import Path

import pytest
import torch
from tests.forks import in_two_processes
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from uniavgen.distributed import ParallelContext
from uniavgen.training.checkpoint_files import checkpoints
from uniavgen.training.checkpointer import Checkpointer
from uniavgen.training.optimizer import OptimConfig, build_optimizer
from uniavgen.training.state import TrainState, restore

WIDTH = 256


class Regression(nn.Module):
    """Two layers with rows of one block, one of 3 rows so that two processes hold 2 and 1, and a small one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.odd, self.small = nn.Linear(WIDTH, 64), nn.Linear(64 * 32, 3), nn.Linear(3, 5)

    def forward(self, step: int) -> torch.Tensor:
        x = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(step % 4))
        hidden = torch.relu(self.wide(x)).repeat(1, 32)
        return (self.small(self.odd(hidden)) - x[:, :5]).square().mean()


def train_steps(trained: nn.Module, optimizer: torch.optim.Optimizer, steps: range, skipped: tuple[int, ...] = ()):
    for step in steps:
        optimizer.zero_grad()
        loss = trained(step)
        (loss * float("nan") if step in skipped else loss).backward()
        optimizer.found_inf = torch.tensor(float(step in skipped))
        optimizer.step()


def optimizer_of(trained: nn.Module, moments: str) -> torch.optim.Optimizer:
    return build_optimizer(trained, OptimConfig(lr=1e-3, moments=moments))


@pytest.fixture
def torchao():
    return pytest.importorskip("torchao", reason="the extra 'quant' is not installed")


def mean_loss(trained: nn.Module) -> float:
    return sum(float(trained(step).detach()) for step in range(4)) / 4


def test_8bit_moments_train_as_float32_ones_nearly_do(torchao):
    losses = {}
    for moments in ("fp32", "8bit"):
        trained = Regression()
        optimizer = optimizer_of(trained, moments)
        train_steps(trained, optimizer, range(40))
        losses[moments] = mean_loss(trained)
    kinds = {type(optimizer.state[p]["exp_avg"]).__name__ for p in (trained.wide.weight, trained.odd.weight)}
    assert kinds == {"OptimState8bit"}
    assert type(optimizer.state[trained.small.weight]["exp_avg"]) is torch.Tensor
    assert losses["8bit"] < 0.7 * mean_loss(Regression())
    assert losses["8bit"] == pytest.approx(losses["fp32"], rel=0.01)


def plain(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [
        value.dequantize() if hasattr(value, "codes") else value.clone()
        for state in optimizer.state.values()
        for value in state.values()
    ]


def test_8bit_step_that_is_skipped_changes_no_weight_and_no_moment(torchao):
    trained = Regression()
    optimizer = optimizer_of(trained, "8bit")
    train_steps(trained, optimizer, range(3))
    weights, moments = [p.detach().clone() for p in trained.parameters()], plain(optimizer)
    train_steps(trained, optimizer, range(3, 5), skipped=(3, 4))
    for before, after in zip(weights, trained.parameters(), strict=True):
        assert torch.equal(before, after)
    for before, after in zip(moments, plain(optimizer), strict=True):
        assert torch.equal(before, after)
    train_steps(trained, optimizer, range(5, 6))
    assert not torch.equal(weights[0], next(iter(trained.parameters())))


def checkpointer(folder: Path) -> Checkpointer:
    return Checkpointer(folder=folder, keep=1, settings={})


def test_8bit_moments_are_saved_and_go_on_bit_for_bit(torchao, tmp_path: Path):
    whole = Regression()
    state = TrainState(model=whole, optimizer=optimizer_of(whole, "8bit"))
    train_steps(whole, state.optimizer, range(3))
    checkpointer(tmp_path).save(state)
    train_steps(whole, state.optimizer, range(3, 6))
    resumed = Regression()
    again = TrainState(model=resumed, optimizer=optimizer_of(resumed, "8bit"))
    restore(again, checkpoints(tmp_path)[-1], 6)
    train_steps(resumed, again.optimizer, range(3, 6))
    expected, found = state.tensors(), again.tensors()
    assert any(name.endswith(".codes") for name in expected)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def as_one_of_two(context: ParallelContext, folder: Path):
    """Weights after four steps, which are saved, and after two more."""
    trained = Regression()
    fully_shard(trained, mesh=init_device_mesh("cpu", (context.world_size,)))
    state = TrainState(model=trained, optimizer=optimizer_of(trained, "8bit"))
    train_steps(trained, state.optimizer, range(4), skipped=(2,))
    checkpointer(folder).save(state)
    weights = {name: parameter.full_tensor() for name, parameter in trained.named_parameters()}
    train_steps(trained, state.optimizer, range(4, 6))
    after = {name: parameter.full_tensor() for name, parameter in trained.named_parameters()}
    return weights, after


def test_8bit_moments_on_two_processes_equal_one_and_go_on_in_one(torchao, tmp_path: Path):
    (weights, after), _ = in_two_processes(as_one_of_two, tmp_path)
    alone = Regression()
    train_steps(alone, optimizer_of(alone, "8bit"), range(4), skipped=(2,))
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-5, atol=1e-6)

    # The checkpoint of two processes is read by one.
    resumed = Regression()
    state = TrainState(model=resumed, optimizer=optimizer_of(resumed, "8bit"))
    restore(state, checkpoints(tmp_path)[-1], 6)
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, weights[name])
    train_steps(resumed, state.optimizer, range(4, 6))
    for name, parameter in resumed.named_parameters():
        torch.testing.assert_close(parameter.detach(), after[name], rtol=1e-5, atol=1e-6)
