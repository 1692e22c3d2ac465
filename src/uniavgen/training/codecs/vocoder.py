"""Training of the small vocoder on random crops of speech: spectra of several resolutions and the mel it was given, and
later discriminators too. [ours]

Letters: b batch, l frames, bins frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs import mel
from uniavgen.codecs.stft import stft
from uniavgen.codecs.vocoder import NanoVocoder
from uniavgen.config import Config
from uniavgen.training.codecs.discriminators import (
    DiscriminatorConfig,
    Discriminators,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from uniavgen.training.codecs.loop import LoopConfig, Objective, seeded, step_rng
from uniavgen.training.codecs.waveforms import Samples, read_waveforms


@dataclass(frozen=True, kw_only=True)
class VocoderConfig(Config):
    """Size of a NanoVocoder."""

    width: int = 192
    hidden: int = 576
    num_layers: int = 6


@dataclass(frozen=True, kw_only=True)
class VocoderTrainConfig(Config):
    """A vocoder and how it is trained."""

    model: VocoderConfig = field(default_factory=VocoderConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loop: LoopConfig
    batch_size: int = 16
    crop_frames: int = 50
    """Mel frames of a crop; 50 are half a second."""
    fft_sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    """Window lengths of the spectral loss: long ones see harmonics, short ones see where the pulses are."""
    mel_weight: float = 1.0
    loudness_range_db: tuple[float, float] = (-9.0, 1.0)
    """Gain that a crop gets, drawn evenly."""
    held_out: int = 12
    """Leading utterances that are not trained on."""


class VocoderObjective(Objective):
    """Distance between crops of speech and what the vocoder makes of their mel, in spectra and to discriminators.

    Vocoder and discriminators take their steps together, each with gradients of its own loss alone.
    """

    def __init__(self, config: VocoderTrainConfig, sounds: list[Samples], device: torch.device) -> None:
        self.config = config
        self.sounds = sounds
        self.device = device
        with seeded(config.loop.seed):
            self.vocoder = NanoVocoder(**vars(config.model)).to(device)
            self.discriminators = Discriminators(config.discriminator).to(device)
        self.model = nn.ModuleDict({"vocoder": self.vocoder, "discriminators": self.discriminators})

    @classmethod
    def from_folder(cls, config: VocoderTrainConfig, folder: Path, device: torch.device) -> "VocoderObjective":
        """The objective over the sounds of a folder (shards or sound files)."""
        samples = config.crop_frames * mel.MEL.hop
        return cls(config, read_waveforms(folder, mel.MEL.sample_rate_hz, samples, config.held_out), device)

    def losses(self, step: int) -> dict[str, Tensor]:
        target = self._crops(step)
        wanted = mel.log_mel(target)
        made = self.vocoder(wanted)
        distances = [spectral_distance(made, target, size) for size in self.config.fft_sizes]
        spectral = torch.stack(distances).mean()
        mel_error = (mel.log_mel(made) - wanted).abs().mean()
        total = spectral + self.config.mel_weight * mel_error
        shown = {"spectral": spectral, "mel": mel_error}
        weights = self.config.discriminator
        if step >= weights.start * self.config.loop.steps:
            recorded = self.discriminators(target)
            told_apart = discriminator_loss(recorded, self.discriminators(made.detach()))
            maps = self.discriminators.frozen(made)
            adversarial, features = adversarial_loss(maps), feature_matching_loss(recorded, maps)
            total = total + told_apart + weights.adversarial_weight * adversarial + weights.feature_weight * features
            shown |= {"discriminator": told_apart, "adversarial": adversarial, "features": features}
        return {"total": total} | {name: loss.detach() for name, loss in shown.items()}

    def parts(self) -> Sequence[nn.Module]:
        return self.vocoder, self.discriminators

    def _crops(self, step: int) -> Float[Tensor, "b samples"]:
        rng = step_rng(self.config.loop.seed, step)
        length = self.config.crop_frames * mel.MEL.hop
        crops = np.empty((self.config.batch_size, length), np.float32)
        for crop in crops:
            sound = self.sounds[rng.integers(len(self.sounds))]
            start = rng.integers(len(sound) - length + 1)
            gain = 10 ** (rng.uniform(*self.config.loudness_range_db) / 20)
            crop[:] = (sound[start : start + length] / 32768 * gain).clip(-1, 1)
        return torch.from_numpy(crops).to(self.device)


def spectral_distance(
    made: Float[Tensor, "b samples"], target: Float[Tensor, "b samples"], num_fft: int
) -> Float[Tensor, ""]:
    """Spectral convergence plus mean distance of log magnitudes (Yamamoto 2020) at one resolution."""
    a, b = (_magnitudes(waveform, num_fft) for waveform in (made, target))
    convergence = (a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).clamp(min=1e-3)
    return convergence.mean() + (a.log() - b.log()).abs().mean()


def _magnitudes(waveform: Float[Tensor, "b samples"], num_fft: int) -> Float[Tensor, "b bins l"]:
    spectrum = stft(waveform, num_fft, num_fft // 4)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()
