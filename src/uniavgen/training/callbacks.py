"""What happens beside training: checkpoints, curves, sampled clips, warnings. None of it changes what is trained.

Each acts on the first process of a run only; a callback that logs reads `StepRecord.values` every so many steps and
leaves the tensors alone in between.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import nn

from uniavgen.distributed import SINGLE_PROCESS, ParallelContext, any_process
from uniavgen.errors import TrainingError
from uniavgen.training.checkpointer import Checkpointer
from uniavgen.training.curves import CurveWriter
from uniavgen.training.loop import StepRecord
from uniavgen.training.state import TrainState
from uniavgen.training.throughput import SpeedMeter

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class CheckpointCallback(Checkpointer):
    """Saves every so many steps, every so many minutes, and after the last step. All processes of a run have one.

    A step that was skipped is not saved: its weights are those of an earlier step, and what made it fail may have been
    in them already. Only the last checkpoint is waited for.
    """

    every: int
    """Steps."""
    minutes: float = 0.0
    """By the clock of the first process; 0 for steps alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._saved_at = time.monotonic()

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        self.finish_quietly(wait=False)
        if record.step == record.num_steps:
            self.save(state)
        elif self._is_due(record.step) and not record.values["num_skipped_in_a_row"]:
            self._saved_at = time.monotonic()
            self.start(state)

    def _is_due(self, step: int) -> bool:
        late = self.minutes > 0 and self._is_main and time.monotonic() - self._saved_at >= 60 * self.minutes
        # Clocks differ: the first process says it to all.
        return step % self.every == 0 or (self.minutes > 0 and any_process(late))


@dataclass(kw_only=True)
class NonFiniteGuard:
    """Warns of steps whose loss or gradient is not finite, and ends a run that consists of them.

    Looks every so many steps and after the last one. Raises TrainingError after `max_in_a_row` steps in a row that
    changed no weights, and after the last step where no step changed any.
    """

    every: int
    max_in_a_row: int
    context: ParallelContext = SINGLE_PROCESS
    _num_steps: int = 0
    _num_known: int = 0

    def __call__(self, record: StepRecord, _state: TrainState) -> None:
        self._num_steps += 1
        is_last = record.step == record.num_steps
        if record.step % self.every and not is_last:
            return
        num_skipped, in_a_row = int(record.values["num_skipped"]), int(record.values["num_skipped_in_a_row"])
        if in_a_row >= self.max_in_a_row or (is_last and in_a_row == self._num_steps):
            losses = ", ".join(f"{name} {record.values[name]:.3g}" for name in record.losses)
            raise TrainingError(
                f"the loss or its gradient was not finite in {in_a_row} steps in a row, up to step {record.step} "
                f"({losses}, gradient norm {record.values['grad_norm']:.3g}); lower the learning rate or check the data"
            )
        if num_skipped > self._num_known and self.context.is_main:
            logger.warning(
                "%d of the last %d steps up to step %d had a loss or gradient that is not finite; they changed no "
                "weights",
                num_skipped - self._num_known,
                min(self.every, self._num_steps),
                record.step,
            )
        self._num_known = num_skipped


@dataclass(frozen=True, kw_only=True)
class CurveCallback:
    """Writes losses, learning rate, gradient norm and the speed of the run. For the main process only."""

    writer: CurveWriter
    every: int
    meter: SpeedMeter

    def __call__(self, record: StepRecord, _state: TrainState) -> None:
        self.meter.add(record)
        if record.step % self.every and record.step != 1:
            return
        scalars = {f"loss/{name}": value for name, value in record.shown_losses.items()}
        if record.task:
            scalars |= {f"loss_{record.task}/{name}": value for name, value in record.shown_losses.items()}
        scalars |= {"run/lr": record.lr, "run/grad_norm": record.values["grad_norm"], "run/seconds": record.seconds}
        names = ("wait_s", "slowest_process", "num_damaged", "epoch")
        scalars |= {f"data/{name}": getattr(record.data, name) for name in names}
        scalars |= self.meter.read().scalars()
        self.writer.add_scalars(scalars, record.step)


@dataclass(frozen=True, kw_only=True)
class SampledClip:
    """A clip that the model under training generated."""

    name: str
    frames: UInt8[np.ndarray, "F H W 3"]
    fps: Fraction
    mel: Float32[np.ndarray, "l mel"]
    waveform: Float32[np.ndarray, " samples"]
    sample_rate_hz: int


@dataclass(frozen=True, kw_only=True)
class SampledClips:
    """What is sampled at one step; empty on all processes but the main one."""

    clips: Sequence[SampledClip] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    """Means of metrics, by `TASK/COLUMN`."""


ClipSampler = Callable[[nn.Module, int], SampledClips]
"""Model (with averaged weights, in eval mode) and step to clips. All processes call it together."""


@dataclass(frozen=True, kw_only=True)
class SampleCallback:
    """Writes clips of the model under training to TensorBoard: the frames in motion, the mel as an image, and the
    sound; and what is measured of them."""

    writer: CurveWriter | None
    """None in other processes than the first."""
    sample: ClipSampler
    every: int

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self.every == 0:
            self.run_now(state)

    def run_now(self, state: TrainState) -> None:
        """Samples whatever the step is, as before the first one."""
        with _evaluated(state) as model:
            sampled = self.sample(model, state.step)
        if self.writer is None:
            return
        for clip in sampled.clips:
            mel = clip.mel.T[::-1]
            scaled = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
            self.writer.add_animation(f"{clip.name}/frames", clip.frames, clip.fps, state.step)
            self.writer.add_image(f"{clip.name}/mel", scaled, state.step)
            self.writer.add_audio(f"{clip.name}/sound", clip.waveform, clip.sample_rate_hz, state.step)
        self.writer.add_scalars({f"sampled_{name}": score for name, score in sampled.scores.items()}, state.step)


@dataclass(frozen=True, kw_only=True)
class HeldOutCallback:
    """Writes losses of held-out clips to TensorBoard, of the averaged weights where there are some."""

    writer: CurveWriter | None
    """Of the main process; None in others, which compute all the same."""
    measure: Callable[[], Mapping[str, float]]
    """See `validation.HeldOutLosses`."""
    every: int

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self.every == 0:
            self.run_now(state)

    def run_now(self, state: TrainState) -> None:
        """Measures whatever the step is, as before the first one."""
        with _evaluated(state):
            losses = self.measure()
        if self.writer is not None:
            self.writer.add_scalars({f"held_out_{name}": loss for name, loss in losses.items()}, state.step)


@contextmanager
def _evaluated(state: TrainState) -> Iterator[nn.Module]:
    """Yields the model in eval mode, with averaged weights where there are some."""
    state.model.eval()
    try:
        with torch.no_grad(), nullcontext() if state.ema is None else state.ema.applied(state.model):
            yield state.model
    finally:
        state.model.train()
