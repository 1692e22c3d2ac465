"""The training loop asks the device for values only where a callback logs, and skips steps that are not finite."""

import itertools
import logging
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from uniavgen.errors import TrainingError
from uniavgen.training.callbacks import CheckpointCallback, NonFiniteGuard
from uniavgen.training.checkpoint_files import checkpoints
from uniavgen.training.ema import EMA
from uniavgen.training.loop import train
from uniavgen.training.objective import Objective
from uniavgen.training.optimizer import AdamWConfig, LearningRateSchedule, build_optimizer
from uniavgen.training.state import TrainState

NUM_STEPS = 12
SCHEDULE = LearningRateSchedule(peak=0.1, num_steps=NUM_STEPS, warmup_steps=1, decay_start=float(NUM_STEPS))
READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}


class Line(Objective[torch.Tensor]):
    """A line; the loss of the steps in `nan_steps` is NaN."""

    def __init__(self, nan_steps: tuple[int, ...] = ()) -> None:
        self.model = nn.Linear(2, 1)
        self.nan_steps = nan_steps

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(4, 2, generator=torch.Generator().manual_seed(step))

    def losses(self, batch: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        loss = (self.model(batch) - batch.sum(dim=1, keepdim=True)).square().mean()
        return {"square": loss, "total": loss * float("nan") if step in self.nan_steps else loss}


def state_of(objective: Line) -> TrainState:
    model = objective.model
    optimizer = build_optimizer(model, AdamWConfig(lr=0.1, weight_decay=0.0))
    return TrainState(model=model, optimizer=optimizer, ema=EMA(model, 0.9))


class CountReads(TorchDispatchMode):
    """Counts the operations that make a program wait for values of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in READS or (name == "aten::_to_copy" and (kwargs or {}).get("device") is not None):
            self.reads[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_losses_are_read_once_per_logged_step_and_never_otherwise(log_every: int):
    objective, numbers = Line(), []

    def log(record, state) -> None:
        if record.step % log_every == 0:
            numbers.append(record.values["total"])
            numbers.append(record.values["grad_norm"])

    with CountReads() as counter:
        train(objective, state_of(objective), SCHEDULE, callbacks=[log])
    assert counter.reads == Counter()
    # `tolist` of one stacked tensor does not go through the dispatcher, so readings are counted where they are cached.
    assert len(numbers) == 2 * (NUM_STEPS // log_every)


def test_record_converts_its_tensors_once(monkeypatch: pytest.MonkeyPatch):
    objective, calls, tolist = Line(), [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: calls.append(self.shape) or tolist(self))

    def log(record, state) -> None:
        if record.step % 4 == 0:
            assert record.values["square"] == record.values["total"]

    train(objective, state_of(objective), SCHEDULE, callbacks=[log, log])
    assert len(calls) == NUM_STEPS // 4


def test_step_without_a_finite_gradient_changes_nothing_but_the_count(caplog: pytest.LogCaptureFixture):
    torch.manual_seed(0)
    objective = Line(nan_steps=(2, 3))
    weights, skipped = [objective.model.weight.detach().clone()], []

    def note(record, state) -> None:
        weights.append(state.model.weight.detach().clone())
        skipped.append(record.values["num_skipped"])

    state = state_of(objective)
    with caplog.at_level(logging.WARNING):
        train(objective, state, SCHEDULE, callbacks=[note, NonFiniteGuard(every=4, max_in_a_row=5)])
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(weights)]
    assert changed == [step not in (2, 3) for step in range(NUM_STEPS)]
    assert skipped == [0, 0, 1, 2] + [2] * 8
    assert {float(one["step"]) for one in state.optimizer.state.values()} == {NUM_STEPS - 2}
    assert [record.getMessage() for record in caplog.records] == [
        "2 of the last 4 steps up to step 4 had a loss or gradient that is not finite; they changed no weights"
    ]


@pytest.mark.parametrize(
    ("not_finite", "every", "max_in_a_row", "last_step"),
    [
        (range(5, 12), 4, 3, 8),
        (range(NUM_STEPS), 100, 50, NUM_STEPS),
        (range(9, 12), 100, 3, NUM_STEPS),
    ],
)
def test_run_of_steps_that_are_not_finite_ends_with_its_reason(
    not_finite: range, every: int, max_in_a_row: int, last_step: int, tmp_path: Path
):
    objective, steps = Line(tuple(not_finite)), []
    guard = NonFiniteGuard(every=every, max_in_a_row=max_in_a_row)
    save = CheckpointCallback(folder=tmp_path, settings={}, every=1, keep=1)
    note = lambda record, state: steps.append(record.step)  # noqa: E731
    with pytest.raises(TrainingError, match=r"not finite in \d+ steps in a row, up to .*total nan"), save:
        train(objective, state_of(objective), SCHEDULE, callbacks=[note, guard, save])
    assert steps[-1] == last_step
    # The steps that failed have saved nothing over the last good one.
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:08d}" for step in {not_finite.start} - {0}]


def test_loss_that_is_not_finite_is_skipped_where_its_gradient_is_finite():
    objective = Line()
    finite = objective.losses
    objective.losses = lambda batch, step: {"total": finite(batch, step)["total"] + (torch.inf if step else 0.0)}
    state, weights = state_of(objective), []
    train(objective, state, SCHEDULE, callbacks=[lambda record, state: weights.append(state.model.weight.tolist())])
    assert weights == [weights[0]] * NUM_STEPS


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path):
    objective = Line()
    state = state_of(objective)
    save = CheckpointCallback(folder=tmp_path, settings={}, every=1, keep=1)
    save.save(state)
    state.step = 1
    with torch.no_grad():
        objective.model.bias.fill_(torch.inf)
    with pytest.raises(TrainingError, match=r"not finite after step 1 \(first bias\)"):
        save.save(state)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000000"]


def test_cosine_schedule_ends_at_its_final_share():
    schedule = LearningRateSchedule(
        peak=2.0, num_steps=100, warmup_steps=10, decay_start=40.0, decay="cosine", final_share=0.1
    )
    rates = [schedule.at(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:41] == pytest.approx([2.0] * 31)
    assert rates[70] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert rates[100] == pytest.approx(0.2)
