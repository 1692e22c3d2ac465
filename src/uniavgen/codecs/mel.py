"""Computes log-mel spectrograms as the authors' release does, in differentiable torch.

    mel = ln(max(sqrt(|STFT(x)|^2 + 1e-9) B, 1e-5)),   B: 80 Slaney mel filters of 0 to 8 kHz

The STFT has a Hann window of 1024 samples every 240, which are 100 frames a second at 24 kHz. One mel frame is one
audio token, so `hop` is `Timebase.hop`.

Letters: b batch, l mel frames, mel bins.
"""

import functools
from dataclasses import dataclass
from typing import Final

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from uniavgen.codecs.stft import stft
from uniavgen.config import Config, NonNegative, Positive, PositiveInt, Width
from uniavgen.errors import ConfigError, MediaError
from uniavgen.timebase import Timebase

PEAK: Final = 0.999146
"""Largest magnitude of a given waveform after peak normalisation. [release]"""


@dataclass(frozen=True, kw_only=True)
class MelConfig(Config):
    """Configures a mel spectrogram; the defaults are the release's [paper 4.1, release]."""

    num_mel: Width = 80
    num_fft: Width = 1024
    """Also the length of the Hann window."""
    hop: Width = Timebase.hop
    """Samples per mel frame."""
    sample_rate_hz: PositiveInt = Timebase.sample_rate_hz
    low_hz: NonNegative = 0.0
    high_hz: Positive = 8000.0
    magnitude_floor: Positive = 1e-9
    """Added under the square root."""
    log_floor: Positive = 1e-5
    """Smallest mel magnitude before the logarithm; silence is ln(1e-5) = -11.5."""

    def __post_init__(self) -> None:
        if self.num_fft <= self.hop or (self.num_fft - self.hop) % 2:
            raise ConfigError(f"num_fft must exceed hop by an even number, got {self.num_fft} and {self.hop}")

    @property
    def pad(self) -> int:
        """Reflected samples on either side, so that `samples / hop` frames come out."""
        return (self.num_fft - self.hop) // 2


MEL: Final = MelConfig()
"""The release's spectrogram."""


@dataclass(frozen=True, kw_only=True)
class MelNormalisation:
    """Converts between raw log-mel and the inputs of the audio branch, by one mean and one standard deviation."""

    mean: float
    std: float

    def normalise(self, log_mel: Float[Tensor, "*b l mel"]) -> Float[Tensor, "*b l mel"]:
        """Returns (x - mean) / std."""
        return (log_mel - self.mean) / self.std

    def denormalise(self, values: Float[Tensor, "*b l mel"]) -> Float[Tensor, "*b l mel"]:
        """Returns x std + mean."""
        return values * self.std + self.mean


NORMALISATION: Final = MelNormalisation(mean=-5.1753, std=2.1544)
"""[release]"""
normalise = NORMALISATION.normalise
denormalise = NORMALISATION.denormalise


@functools.lru_cache(maxsize=8)
def _filters(config: MelConfig) -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=config.num_fft // 2 + 1,
        num_mel_filters=config.num_mel,
        min_frequency=config.low_hz,
        max_frequency=config.high_hz,
        sampling_rate=config.sample_rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )
    # Kept for all calls, also those outside the inference mode in which it may be made.
    with torch.inference_mode(False):
        return torch.from_numpy(bank).float()


def filter_bank(config: MelConfig = MEL) -> Float[Tensor, "bins mel"]:
    """Returns Slaney mel filters, float32; `bins = num_fft / 2 + 1`."""
    return _filters(config)


def log_mel(waveform: Float[Tensor, "b samples"], config: MelConfig = MEL) -> Float[Tensor, "b l mel"]:
    """Returns the raw log-mel of 24 kHz waveforms in [-1, 1]; `l = samples // hop`.

    Differentiable; runs in the waveform's precision, at least float32. Raises MediaError for waveforms shorter than
    the reflected border (392 samples).
    """
    if waveform.shape[-1] <= config.pad:
        raise MediaError(f"a mel spectrogram needs more than {config.pad} samples, got {waveform.shape[-1]}")
    samples = waveform if waveform.dtype == torch.float64 else waveform.float()
    spectrum = stft(samples, config.num_fft, config.hop)
    power = spectrum.real.square() + spectrum.imag.square()
    magnitude = (power + config.magnitude_floor).sqrt()
    bank = filter_bank(config).to(magnitude)
    mel = einsum(magnitude, bank, "b bins l, bins mel -> b l mel")
    return mel.clamp(min=config.log_floor).log()


def peak_normalise(waveform: Float[Tensor, "*b samples"], peak: float = PEAK) -> Float[Tensor, "*b samples"]:
    """Scales each waveform so that its largest magnitude is `peak`; silence stays silence. [release]"""
    loudest = waveform.abs().amax(dim=-1, keepdim=True)
    return waveform * torch.where(loudest > 0, peak / loudest.clamp(min=1e-12), torch.ones_like(loudest))


def magnitudes(log_mel: Float[Tensor, "b l mel"], config: MelConfig = MEL) -> Float[Tensor, "b bins l"]:
    """Returns max(exp(log_mel) pinv(B), 0): linear magnitudes, by least squares, of which Griffin-Lim needs phases."""
    inverse = torch.linalg.pinv(filter_bank(config).double()).to(log_mel)
    return einsum(log_mel.exp(), inverse, "b l mel, mel bins -> b bins l").clamp(min=0)
