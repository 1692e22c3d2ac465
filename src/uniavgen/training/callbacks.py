"""What happens beside training: checkpoints, curves, sampled clips, warnings. None of it changes what is trained.

Each acts on the first process of a run only; a callback that logs reads `StepRecord.values` every so many steps and
leaves the tensors alone in between.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import nn

from uniavgen.artifacts import atomic_folder
from uniavgen.checkpoint.lora import has_adapter, save_adapter
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import TrainingError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.timebase import Timebase
from uniavgen.training.curves import CurveWriter
from uniavgen.training.loop import StepRecord
from uniavgen.training.state import TrainState, save

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckpointCallback:
    """Saves every so many steps and after the last one.

    A step that was skipped is not saved: its weights are those of an earlier step, and what made it fail may have been
    in them already.
    """

    folder: Path
    settings: Mapping[str, Any]
    """Resolved settings, kept beside the weights."""
    every: int
    keep: int
    context: ParallelContext = SINGLE_PROCESS

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        is_last = record.step == record.num_steps
        if is_last or (record.step % self.every == 0 and not record.values["num_skipped_in_a_row"]):
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Saves now, as after Ctrl-C. Raises TrainingError where weights are not finite, and writes nothing."""
        if self.context.is_main:
            save(state, self.folder, self.settings, self.keep)


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
    """Writes losses, learning rate, gradient norm and time of a step to TensorBoard."""

    writer: CurveWriter
    every: int
    context: ParallelContext = SINGLE_PROCESS

    def __call__(self, record: StepRecord, _state: TrainState) -> None:
        if not self.context.is_main or (record.step % self.every and record.step != 1):
            return
        scalars = {f"loss/{name}": value for name, value in record.shown_losses.items()}
        if record.task:
            scalars |= {f"loss_{record.task}/{name}": value for name, value in record.shown_losses.items()}
        scalars |= {"run/lr": record.lr, "run/grad_norm": record.values["grad_norm"], "run/seconds": record.seconds}
        self.writer.add_scalars(scalars, record.step)


@dataclass(frozen=True, kw_only=True)
class SampledClip:
    """A clip that the model under training generated."""

    name: str
    frames: UInt8[np.ndarray, "F H W 3"]
    mel: Float32[np.ndarray, "l mel"]
    waveform: Float32[np.ndarray, " samples"]


ClipSampler = Callable[[nn.Module], Sequence[SampledClip]]
"""Model (with averaged weights, in eval mode) to clips."""


@dataclass(frozen=True, kw_only=True)
class SampleCallback:
    """Writes clips of the model under training to TensorBoard: a row of frames, the mel as an image, and the sound."""

    NUM_FRAMES = 8

    writer: CurveWriter
    sample: ClipSampler
    every: int
    context: ParallelContext = SINGLE_PROCESS

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self.every or not self.context.is_main:
            return
        for clip in _sampled(self.sample, state):
            shown = clip.frames[np.linspace(0, len(clip.frames) - 1, self.NUM_FRAMES).astype(int)]
            row = np.concatenate(list(shown), axis=1)
            mel = clip.mel.T[::-1]
            scaled = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
            self.writer.add_image(f"{clip.name}/frames", row, record.step)
            self.writer.add_image(f"{clip.name}/mel", scaled, record.step)
            self.writer.add_audio(f"{clip.name}/sound", clip.waveform, Timebase.sample_rate_hz, record.step)


def save_weights(state: TrainState, folder: Path) -> None:
    """Writes the weights to use, averaged where there is an average: a diffusers folder, or the adapter if one is
    trained.

    The folder is complete or not written at all.
    """
    assert isinstance(state.model, UniAVGenTransformer)
    averaged = nullcontext() if state.ema is None else state.ema.applied(state.model)
    with atomic_folder(folder) as partial, averaged:
        if has_adapter(state.model):
            save_adapter(state.model, partial)
        else:
            state.model.save_pretrained(partial)


def _sampled(sample: ClipSampler, state: TrainState) -> Sequence[SampledClip]:
    state.model.eval()
    try:
        with torch.no_grad(), nullcontext() if state.ema is None else state.ema.applied(state.model):
            return sample(state.model)
    finally:
        state.model.train()
