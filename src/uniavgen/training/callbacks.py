"""What happens beside training: checkpoints, TensorBoard, sampled clips. None of it changes what is trained."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from uniavgen.artifacts import atomic_folder
from uniavgen.errors import ConfigError
from uniavgen.timebase import Timebase
from uniavgen.training.loop import StepRecord
from uniavgen.training.state import TrainState, save


@dataclass(frozen=True, kw_only=True)
class CheckpointCallback:
    """Saves every so many steps and after the last one."""

    folder: Path
    settings: Mapping[str, Any]
    """Resolved settings, kept beside the weights."""
    every: int
    keep: int

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self.every == 0 or record.step == record.num_steps:
            self.save(state)

    def save(self, state: TrainState) -> Path:
        """Save now, as after Ctrl-C."""
        return save(state, self.folder, dict(self.settings), self.keep)


def save_weights(state: TrainState, folder: Path) -> None:
    """The weights to use, averaged where there is an average, as a diffusers folder, whole or not at all."""
    weights = nullcontext() if state.ema is None else state.ema.applied(state.model)
    with atomic_folder(folder) as partial, weights:
        state.model.save_pretrained(partial)


@dataclass(frozen=True, kw_only=True)
class SampledClip:
    """A clip that the model under training made."""

    name: str
    frames: UInt8[np.ndarray, "F H W 3"]
    mel: Float32[np.ndarray, "l mel"]
    waveform: Float32[np.ndarray, " samples"]


ClipSampler = Callable[[torch.nn.Module], Sequence[SampledClip]]
"""Model (with averaged weights, in eval mode) to clips."""
_SHEET_FRAMES = 8


class TensorBoardCallback:
    """Losses, learning rate and gradient norm as curves; sampled clips as rows of frames, mel pictures and sound."""

    def __init__(
        self,
        folder: Path,
        log_every: int,
        sample_every: int = 0,
        sample: ClipSampler | None = None,
        rate_hz: int = Timebase.sample_rate_hz,
    ) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise ConfigError("TensorBoard is not installed; pip install 'uniavgen[train]'") from None
        self._writer = SummaryWriter(str(folder))
        self._log_every, self._sample_every, self._sample, self._rate_hz = log_every, sample_every, sample, rate_hz

    def __call__(self, record: StepRecord, state: TrainState) -> None:
        if record.step % self._log_every == 0 or record.step == 1:
            for name, value in record.losses.items():
                self._writer.add_scalar(f"loss/{name}", value, record.step)
                self._writer.add_scalar(f"loss_{record.task}/{name}", value, record.step)
            for name, value in (("lr", record.lr), ("grad_norm", record.grad_norm), ("seconds", record.seconds)):
                self._writer.add_scalar(f"run/{name}", value, record.step)
        if self._sample is not None and self._sample_every and record.step % self._sample_every == 0:
            self._show(self._sampled(self._sample, state), record.step)

    def close(self) -> None:
        """Write out what is still held back."""
        self._writer.close()

    def _sampled(self, sample: ClipSampler, state: TrainState) -> Sequence[SampledClip]:
        state.model.eval()
        try:
            with torch.no_grad():
                if state.ema is None:
                    return sample(state.model)
                with state.ema.applied(state.model):
                    return sample(state.model)
        finally:
            state.model.train()

    def _show(self, clips: Sequence[SampledClip], step: int) -> None:
        for clip in clips:
            shown = clip.frames[np.linspace(0, len(clip.frames) - 1, _SHEET_FRAMES).astype(int)]
            self._writer.add_image(f"{clip.name}/frames", np.concatenate(list(shown), axis=1), step, dataformats="HWC")
            mel = clip.mel.T[::-1]
            scaled = (mel - mel.min()) / max(float(mel.max() - mel.min()), 1e-6)
            self._writer.add_image(f"{clip.name}/mel", scaled[None], step)
            self._writer.add_audio(f"{clip.name}/sound", clip.waveform[None], step, sample_rate=self._rate_hz)
