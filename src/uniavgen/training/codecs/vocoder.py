"""Training of the small vocoder on random crops of speech. [ours]

L = L_spectral + mel_weight L_mel, and from `discriminator.start` on
    + L_discriminator + adversarial_weight L_adversarial + feature_weight L_features

L_spectral is `spectral_distance` averaged over `fft_sizes`, L_mel the mean absolute error of the log-mel.

Letters: b batch, l frames, bins frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs import mel
from uniavgen.codecs.stft import stft
from uniavgen.codecs.vocoder import NanoVocoder
from uniavgen.config import Config, Count, LayerCount, NonNegative, PositiveInt, Width
from uniavgen.errors import ConfigError
from uniavgen.training.codecs.discriminators import (
    DiscriminatorConfig,
    Discriminators,
    FFTSize,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from uniavgen.training.codecs.run import BatchSize, CodecLoopConfig
from uniavgen.training.codecs.waveforms import Samples, read_waveforms
from uniavgen.training.objective import Objective
from uniavgen.training.randomness import default_generator, step_rng

Decibels = Annotated[float, Interval(ge=-100, le=100)]


@dataclass(frozen=True, kw_only=True)
class VocoderConfig(Config):
    """Size of a NanoVocoder."""

    width: Width = 192
    hidden: Width = 576
    num_layers: LayerCount = 6


@dataclass(frozen=True, kw_only=True)
class VocoderTrainConfig(Config):
    """A vocoder and how it is trained."""

    model: VocoderConfig = field(default_factory=VocoderConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loop: CodecLoopConfig
    batch_size: BatchSize = 16
    crop_frames: PositiveInt = 50
    """Mel frames of a crop; 50 are half a second."""
    fft_sizes: Annotated[tuple[FFTSize, ...], MinLen(1)] = (2048, 1024, 512, 256, 128)
    """Window lengths of the spectral loss: long ones resolve harmonics, short ones resolve pulses in time."""
    mel_weight: NonNegative = 1.0
    loudness_range_db: tuple[Decibels, Decibels] = (-9.0, 1.0)
    """Gain that a crop gets, drawn evenly."""
    held_out: Count = 12
    """Leading utterances that are not trained on."""

    def __post_init__(self) -> None:
        if self.loudness_range_db[0] > self.loudness_range_db[1]:
            raise ConfigError(f"loudness_range_db goes from low to high, got {self.loudness_range_db}")
        # A window is mirrored at the ends of the crop, by half its length.
        samples = self.crop_frames * mel.MEL.hop
        sizes = (*self.fft_sizes, *self.discriminator.fft_sizes, *self.discriminator.periods)
        if samples <= max(sizes) // 2:
            raise ConfigError(
                f"a crop of {self.crop_frames} frames has {samples} samples, too few for fft_sizes and periods up to "
                f"{max(sizes)}; raise crop_frames"
            )


class VocoderObjective(Objective[Float[Tensor, "b samples"]]):
    """Losses of a vocoder that restores crops of speech from their log-mel, and of its discriminators.

    Both take their steps together, each with the gradients of its own losses alone.
    """

    def __init__(self, config: VocoderTrainConfig, waveforms: list[Samples], device: torch.device) -> None:
        self.config = config
        self.waveforms = waveforms
        self.device = device
        with default_generator(torch.Generator().manual_seed(config.loop.seed)):
            self.vocoder = NanoVocoder(**vars(config.model)).to(device)
            self.discriminators = Discriminators(config.discriminator).to(device)
        self.model = nn.ModuleDict({"vocoder": self.vocoder, "discriminators": self.discriminators})

    @classmethod
    def from_folder(cls, config: VocoderTrainConfig, folder: Path, device: torch.device) -> "VocoderObjective":
        """Returns the objective over the audio of a folder (shards or audio files)."""
        samples = config.crop_frames * mel.MEL.hop
        return cls(config, read_waveforms(folder, mel.MEL.sample_rate_hz, samples, config.held_out), device)

    def batch(self, step: int) -> Float[Tensor, "b samples"]:
        """Returns random crops of random waveforms, each at a random loudness."""
        rng = step_rng(self.config.loop.seed, step)
        length = self.config.crop_frames * mel.MEL.hop
        crops = np.empty((self.config.batch_size, length), np.float32)
        for crop in crops:
            waveform = self.waveforms[rng.integers(len(self.waveforms))]
            start = rng.integers(len(waveform) - length + 1)
            gain = 10 ** (rng.uniform(*self.config.loudness_range_db) / 20)
            crop[:] = (waveform[start : start + length] / 32768 * gain).clip(-1, 1)
        return torch.from_numpy(crops).to(self.device)

    def losses(self, batch: Float[Tensor, "b samples"], step: int) -> dict[str, Tensor]:
        target_mel = mel.log_mel(batch)
        generated = self.vocoder(target_mel)
        distances = [spectral_distance(generated, batch, size) for size in self.config.fft_sizes]
        spectral = torch.stack(distances).mean()
        mel_error = (mel.log_mel(generated) - target_mel).abs().mean()
        total = spectral + self.config.mel_weight * mel_error
        losses = {"spectral": spectral, "mel": mel_error}
        settings = self.config.discriminator
        if step >= settings.start * self.config.loop.steps:
            recorded = self.discriminators(batch)
            discrimination = discriminator_loss(recorded, self.discriminators(generated.detach()))
            maps = self.discriminators.frozen(generated)
            adversarial, features = adversarial_loss(maps), feature_matching_loss(recorded, maps)
            total = total + discrimination
            total = total + settings.adversarial_weight * adversarial + settings.feature_weight * features
            losses |= {"discriminator": discrimination, "adversarial": adversarial, "features": features}
        return {"total": total, **losses}

    def clip_groups(self) -> Sequence[nn.Module]:
        return self.vocoder, self.discriminators


def spectral_distance(
    generated: Float[Tensor, "b samples"], target: Float[Tensor, "b samples"], num_fft: int
) -> Float[Tensor, ""]:
    """Returns ||A - B|| / ||B|| + mean |log A - log B| for the magnitude spectra A, B of both at one resolution.

    The first term is spectral convergence, per waveform. (Yamamoto et al. 2020, arXiv 1910.11480)
    """
    a, b = (_magnitudes(waveform, num_fft) for waveform in (generated, target))
    convergence = (a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).clamp(min=1e-3)
    return convergence.mean() + (a.log() - b.log()).abs().mean()


def _magnitudes(waveform: Float[Tensor, "b samples"], num_fft: int) -> Float[Tensor, "b bins l"]:
    spectrum = stft(waveform, num_fft, num_fft // 4)
    # The floor keeps the square root and the logarithm differentiable in silence.
    return (spectrum.real.square() + spectrum.imag.square() + 1e-7).sqrt()
