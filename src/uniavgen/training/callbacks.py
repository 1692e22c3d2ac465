"""What happens beside training: checkpoints, curves, sampled clips, warnings. None of it changes what is trained.

Each acts on the first process of a run only; a callback that logs reads `StepRecord.values` every so many steps and
leaves the tensors alone in between.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import nn

from uniavgen.artifacts import atomic_folder
from uniavgen.checkpoint.lora import has_adapter, save_adapter
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.errors import ConfigError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.timebase import Timebase
from uniavgen.training.loop import StepRecord
from uniavgen.training.state import TrainState, save

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckpointCallback:
    """Saves every so many steps and after the last one."""

    folder: Path
    settings: Mapping[str, Any]
    """Resolved settings, kept beside the weights."""
    every: int
    keep: int
    context: ParallelContext = SINGLE_PROCESS

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self.every == 0 or record.step == record.num_steps:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Saves now, as after Ctrl-C."""
        if self.context.is_main:
            save(state, self.folder, self.settings, self.keep)


@dataclass(kw_only=True)
class SkippedUpdateWarning:
    """Warns every so many steps of updates that were skipped, because the gradient was not finite."""

    every: int
    context: ParallelContext = SINGLE_PROCESS
    _num_known: int = 0

    def __call__(self, record: StepRecord, _state: TrainState) -> None:
        if not self.context.is_main or (record.step % self.every and record.step != record.num_steps):
            return
        num_skipped = int(record.values["num_skipped"])
        if num_skipped > self._num_known:
            logger.warning(
                "%d of the last %d steps up to step %d had a gradient that is not finite; they changed no weights",
                num_skipped - self._num_known,
                self.every,
                record.step,
            )
        self._num_known = num_skipped


@dataclass(frozen=True, kw_only=True)
class CurveCallback:
    """Writes losses, learning rate, gradient norm and time of a step to TensorBoard."""

    writer: "SummaryWriter"
    every: int
    context: ParallelContext = SINGLE_PROCESS

    def __call__(self, record: StepRecord, _state: TrainState) -> None:
        if not self.context.is_main or (record.step % self.every and record.step != 1):
            return
        for name in record.losses:
            self.writer.add_scalar(f"loss/{name}", record.values[name], record.step)
            if record.task:
                self.writer.add_scalar(f"loss_{record.task}/{name}", record.values[name], record.step)
        scalars = {"lr": record.lr, "grad_norm": record.values["grad_norm"], "seconds": record.seconds}
        for name, value in scalars.items():
            self.writer.add_scalar(f"run/{name}", value, record.step)


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

    writer: "SummaryWriter"
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
            self.writer.add_image(f"{clip.name}/frames", row, record.step, dataformats="HWC")
            self.writer.add_image(f"{clip.name}/mel", scaled[None], record.step)
            rate_hz = Timebase.sample_rate_hz
            self.writer.add_audio(f"{clip.name}/sound", clip.waveform[None], record.step, sample_rate=rate_hz)


def open_tensorboard(folder: Path) -> "SummaryWriter":
    """Returns a writer of TensorBoard files; raises ConfigError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed; pip install 'uniavgen[train]'") from error
    return SummaryWriter(str(folder))


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
