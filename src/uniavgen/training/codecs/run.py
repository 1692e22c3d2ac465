"""How codecs are trained: settings that they share, and a run on the training loop that continues where it stopped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from annotated_types import Interval, Le

from uniavgen.config import Count, Factor, Positive, PositiveInt, Probability, Seed, Share, dump
from uniavgen.training.callbacks import CheckpointCallback, NonFiniteGuard
from uniavgen.training.checkpoint_files import checkpoints, remove_old
from uniavgen.training.loop import Callback, train
from uniavgen.training.objective import Objective
from uniavgen.training.optimizer import AdamWConfig, LearningRateSchedule, build_optimizer
from uniavgen.training.state import TrainState, restore

BatchT = TypeVar("BatchT")
BatchSize = Annotated[int, Interval(ge=1, le=4096)]
"""Samples of a step, bounded because a mistyped number would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class CodecLoopConfig(AdamWConfig):
    """Length and optimiser of a codec's training."""

    steps: PositiveInt
    lr: Annotated[Positive, Le(1.0)] = 1e-3
    warmup_steps: Count = 50
    decay_share: Share = 1.0
    """Last share of the steps over which the rate falls along a half cosine; 1 is a plain cosine schedule."""
    final_lr_share: Probability = 0.01
    """The last step's rate, relative to `lr`."""
    betas: tuple[Factor, Factor] = (0.9, 0.99)
    save_every: PositiveInt = 200
    seed: Seed = 0

    def schedule(self) -> LearningRateSchedule:
        """Returns the learning rate of all steps."""
        return LearningRateSchedule(
            peak=self.lr,
            num_steps=self.steps,
            warmup_steps=self.warmup_steps,
            decay_start=self.steps * (1 - self.decay_share),
            decay="cosine",
            final_share=self.final_lr_share,
        )


def train_codec(
    objective: Objective[BatchT],
    config: CodecLoopConfig,
    folder: Path,
    callbacks: Iterable[Callback] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Trains to `config.steps`, from the last checkpoint in `folder` where there is one; the model is in eval mode
    then.

    Raises CheckpointError where the checkpoint is of another run.
    """
    model = objective.model
    state = TrainState(model=model, optimizer=build_optimizer(model, config))
    saved = checkpoints(folder)
    if saved:
        restore(state, saved[-1], config.steps)
    remove_old(folder, keep=1)
    checkpoint_callback = CheckpointCallback(folder=folder, settings=dump(config), every=config.save_every, keep=1)
    guard = NonFiniteGuard(every=config.save_every, max_in_a_row=config.max_skipped_steps)
    with checkpoint_callback:
        train(
            objective,
            state,
            config.schedule(),
            max_grad_norm=config.max_grad_norm,
            callbacks=(guard, checkpoint_callback, *callbacks),
            stopped=stopped,
        )
    model.eval()
