"""How codecs are trained: settings that they share, and a run on the training loop that continues where it stopped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from uniavgen.config import Config, dump
from uniavgen.errors import ConfigError
from uniavgen.training.callbacks import CheckpointCallback, SkippedUpdateWarning
from uniavgen.training.loop import Callback, train
from uniavgen.training.objective import Objective
from uniavgen.training.optimizer import LearningRateSchedule, build_optimizer
from uniavgen.training.state import TrainState, checkpoints, restore

BatchT = TypeVar("BatchT")


@dataclass(frozen=True, kw_only=True)
class CodecLoopConfig(Config):
    """Length and optimiser of a codec's training."""

    steps: int
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 50
    decay_share: float = 1.0
    """Last share of the steps over which the rate falls along a half cosine; 1 is a plain cosine schedule."""
    final_lr_share: float = 0.01
    """The last step's rate, relative to `lr`."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.save_every < 1:
            raise ConfigError(f"steps and save_every must be at least 1, got {self.steps} and {self.save_every}")
        if not 0 < self.decay_share <= 1:
            raise ConfigError(f"decay_share is above 0 and at most 1, got {self.decay_share}")

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
    optimizer = build_optimizer(model, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    state = TrainState(model=model, optimizer=optimizer)
    saved = checkpoints(folder)
    if saved:
        restore(state, saved[-1])
    checkpoint_callback = CheckpointCallback(folder=folder, settings=dump(config), every=config.save_every, keep=1)
    train(
        objective,
        state,
        config.schedule(),
        max_grad_norm=config.max_grad_norm,
        callbacks=(checkpoint_callback, SkippedUpdateWarning(every=config.save_every), *callbacks),
        stopped=stopped,
    )
    model.eval()
