"""Judges of sound: small networks that tell recorded speech from a vocoder's, so that the vocoder learns what spectra
do not say (phases, the texture of noise).

Some look at the waveform folded at a period, as HiFi-GAN's (arXiv 2010.05646), some at log spectra of one resolution,
as UnivNet's (arXiv 2106.07889), with the hinge loss and the matching of features that Vocos (arXiv 2306.00814) uses.
Far smaller than any of these. [sizes ours]

Letters: b batch, l frames, bins frequencies.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs.stft import stft
from uniavgen.config import Config
from uniavgen.errors import ConfigError

SLOPE: Final = 0.1
GAIN: Final = 10.0
"""Speech at its usual level has a deviation of 1 behind it, at which judges learn soonest."""

Opinion = list[Tensor]
"""The maps of all layers of one judge; the last is its verdict on each place, above 0 for recorded."""


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig(Config):
    """Judges, and from when on they are heard."""

    start: float = 0.35
    """Share of the steps after which judges begin; 1 trains without them."""
    periods: tuple[int, ...] = (2, 3, 5)
    """Samples at which waveforms are folded."""
    fft_sizes: tuple[int, ...] = (1024, 512, 256)
    """Window lengths of the spectra looked at."""
    width: int = 16
    weight: float = 0.2
    """Of deceiving the judges, relative to the spectral losses."""
    feature_weight: float = 0.5
    """Of matching the judges' features of the recorded sound."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ConfigError(f"adversary.start is a share of the steps, 0 to 1, got {self.start}")
        if not self.periods and not self.fft_sizes:
            raise ConfigError("an adversary needs periods or fft_sizes, got neither; start: 1 trains without one")


class PeriodJudge(nn.Module):
    """Folds a waveform into rows of `period` samples and convolves down the columns."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width, 8 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (7, 1), stride=(4, 1), padding=(3, 0))
            for before, after in itertools.pairwise(widths)
        )
        self.verdict = nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveform: Float[Tensor, "b samples"]) -> Opinion:
        rows = waveform.shape[-1] // self.period
        folded = waveform[:, : rows * self.period].reshape(-1, 1, rows, self.period)
        return _opinion(folded, self.layers, self.verdict)


class SpectrumJudge(nn.Module):
    """Convolves over the log magnitudes of one resolution."""

    def __init__(self, num_fft: int, width: int) -> None:
        super().__init__()
        self.num_fft = num_fft
        widths = (1, width, 2 * width, 4 * width)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (7, 3), stride=(4, stride), padding=(3, 1))
            for (before, after), stride in zip(itertools.pairwise(widths), (1, 2, 2), strict=True)
        )
        self.verdict = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, waveform: Float[Tensor, "b samples"]) -> Opinion:
        spectrum = stft(waveform, self.num_fft, self.num_fft // 4)
        power = spectrum.real.square() + spectrum.imag.square()
        return _opinion((power + 1e-5).log()[:, None] / 4, self.layers, self.verdict)


class Adversary(nn.Module):
    """All judges, each with its own opinion."""

    def __init__(self, config: AdversaryConfig) -> None:
        super().__init__()
        judges: list[nn.Module] = [PeriodJudge(period, config.width) for period in config.periods]
        judges += [SpectrumJudge(size, config.width) for size in config.fft_sizes]
        self.judges = nn.ModuleList(judges)

    def forward(self, waveform: Float[Tensor, "b samples"]) -> list[Opinion]:
        return [judge(GAIN * waveform) for judge in self.judges]

    def unmoved(self, waveform: Float[Tensor, "b samples"]) -> list[Opinion]:
        """The same opinions; gradients reach the waveform and no judge."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return torch.func.functional_call(self, fixed, (waveform,))


def judging_loss(recorded: Sequence[Opinion], made: Sequence[Opinion]) -> Float[Tensor, ""]:
    """Hinge loss of the judges: recorded sound above 1, made sound below -1."""
    losses = [F.relu(1 - a[-1]).mean() + F.relu(1 + b[-1]).mean() for a, b in zip(recorded, made, strict=True)]
    return torch.stack(losses).mean()


def deceiving_loss(made: Sequence[Opinion]) -> Float[Tensor, ""]:
    """Hinge loss of who made the sound: judges should think it recorded."""
    return torch.stack([F.relu(1 - opinion[-1]).mean() for opinion in made]).mean()


def feature_loss(recorded: Sequence[Opinion], made: Sequence[Opinion]) -> Float[Tensor, ""]:
    """Mean distance of the judges' inner maps, relative to their size in the recorded sound."""
    distances = [
        (a.detach() - b).abs().mean() / a.detach().abs().mean().clamp(min=1e-3)
        for one, other in zip(recorded, made, strict=True)
        for a, b in zip(one[:-1], other[:-1], strict=True)
    ]
    return torch.stack(distances).mean()


def _opinion(x: Float[Tensor, "b channel row column"], layers: nn.ModuleList, verdict: nn.Module) -> Opinion:
    maps = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        maps.append(x)
    return [*maps, verdict(x)]
