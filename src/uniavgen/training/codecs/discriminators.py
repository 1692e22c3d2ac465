"""Small discriminators between recorded speech and a vocoder's, for what spectral losses do not constrain: phases and
the texture of noise.

Some take the waveform folded at a period, as HiFi-GAN's (arXiv 2010.05646), some log spectra of one resolution, as
UnivNet's (arXiv 2106.07889), with the hinge loss and the feature matching of Vocos (arXiv 2306.00814). All are far
smaller than these. [sizes ours]

Letters: b batch, l frames, bins frequencies.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import torch
import torch.nn.functional as F
from annotated_types import Interval, Le
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs.stft import stft
from uniavgen.config import Config, NonNegative, PositiveInt, Probability
from uniavgen.errors import ConfigError

SLOPE: Final = 0.1
"""Of the leaky ReLU below 0."""
GAIN: Final = 10.0
"""Scales speech of usual loudness to a standard deviation of 1, at which discriminators learn soonest."""

FFTSize = Annotated[int, Interval(ge=16, le=2**16)]
"""Length of a window; a quarter of it is the hop."""
FeatureMaps = list[Tensor]
"""The outputs of all layers of one discriminator; the last are its logits, above 0 for recorded speech."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(Config):
    """Discriminators, and the step from which they are used."""

    start: Probability = 0.3
    """Share of the steps after which they begin; 1 trains without them."""
    periods: tuple[Annotated[PositiveInt, Le(1000)], ...] = (2, 3, 5)
    """Samples a row where a waveform is folded."""
    fft_sizes: tuple[FFTSize, ...] = (1024, 512, 256)
    """Window lengths of the spectra."""
    width: Annotated[PositiveInt, Le(4096)] = 16
    adversarial_weight: NonNegative = 0.2
    """Weight of the vocoder's adversarial loss."""
    feature_weight: NonNegative = 0.5
    """Weight of feature matching."""

    def __post_init__(self) -> None:
        if not self.periods and not self.fft_sizes:
            raise ConfigError("discriminators need periods or fft_sizes, got neither; start: 1 trains without them")


class PeriodDiscriminator(nn.Module):
    """Folds a waveform into rows of `period` samples and convolves down the columns."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width, 8 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (7, 1), stride=(4, 1), padding=(3, 0))
            for before, after in itertools.pairwise(widths)
        )
        self.logits = nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveform: Float[Tensor, "b samples"]) -> FeatureMaps:
        rows = waveform.shape[-1] // self.period
        folded = waveform[:, : rows * self.period].reshape(-1, 1, rows, self.period)
        return _feature_maps(folded, self.layers, self.logits)


class SpectrogramDiscriminator(nn.Module):
    """Convolves over the log magnitudes of one resolution."""

    def __init__(self, num_fft: int, width: int) -> None:
        super().__init__()
        self.num_fft = num_fft
        widths = (1, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (7, 3), stride=(4, stride), padding=(3, 1))
            for (before, after), stride in zip(itertools.pairwise(widths), (1, 2, 2), strict=True)
        )
        self.logits = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, waveform: Float[Tensor, "b samples"]) -> FeatureMaps:
        spectrum = stft(waveform, self.num_fft, self.num_fft // 4)
        power = spectrum.real.square() + spectrum.imag.square()
        return _feature_maps((power + 1e-5).log()[:, None] / 4, self.layers, self.logits)


class Discriminators(nn.Module):
    """All discriminators; each returns its own feature maps."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        parts: list[nn.Module] = [PeriodDiscriminator(period, config.width) for period in config.periods]
        parts += [SpectrogramDiscriminator(size, config.width) for size in config.fft_sizes]
        self.parts = nn.ModuleList(parts)

    def forward(self, waveform: Float[Tensor, "b samples"]) -> list[FeatureMaps]:
        return [part(GAIN * waveform) for part in self.parts]

    def frozen(self, waveform: Float[Tensor, "b samples"]) -> list[FeatureMaps]:
        """Returns the same maps; gradients reach the waveform and no discriminator."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return torch.func.functional_call(self, fixed, (waveform,))


def discriminator_loss(recorded: Sequence[FeatureMaps], generated: Sequence[FeatureMaps]) -> Float[Tensor, ""]:
    """Returns the hinge loss mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(x))), averaged over the discriminators."""
    losses = [F.relu(1 - a[-1]).mean() + F.relu(1 + b[-1]).mean() for a, b in zip(recorded, generated, strict=True)]
    return torch.stack(losses).mean()


def adversarial_loss(generated: Sequence[FeatureMaps]) -> Float[Tensor, ""]:
    """Returns the vocoder's hinge loss mean max(0, 1 - D(G(x))), averaged over the discriminators."""
    return torch.stack([F.relu(1 - maps[-1]).mean() for maps in generated]).mean()


def feature_matching_loss(recorded: Sequence[FeatureMaps], generated: Sequence[FeatureMaps]) -> Float[Tensor, ""]:
    """Returns mean |F(x) - F(G(x))| / mean |F(x)|, averaged over all layers F below the logits."""
    distances = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp(min=1e-3)
        for maps, generated_maps in zip(recorded, generated, strict=True)
        for a, b in zip(maps[:-1], generated_maps[:-1], strict=True)
    ]
    return torch.stack(distances).mean()


def _feature_maps(x: Float[Tensor, "b channel row column"], layers: nn.ModuleList, logits: nn.Module) -> FeatureMaps:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        maps.append(x)
    return [*maps, logits(x)]
