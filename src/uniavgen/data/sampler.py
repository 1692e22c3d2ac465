"""The order of samples: a pure function of (seed, global sample number), so that a checkpoint stores no reader state.

Sources are mixed exactly: every run of `sum(weights)` samples holds each source as often as its weight says. Within a
source every epoch is a permutation. Ranks and workers only divide the sample numbers among themselves.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from uniavgen.data.permutation import permuted
from uniavgen.errors import ConfigError

MAX_WEIGHT = 10_000
"""A run of samples, which holds each source by its weight, is laid out as a whole. [ours]"""
_MIXTURE_STREAM, _EPOCH_STREAM, _REPLACEMENT_STREAM = 0, 1, 3
"""Second word of the seeds; `data.dataset` has 2, `data.bucket_schedule` 4."""


@dataclass(frozen=True, kw_only=True)
class ClipLocation:
    """Where a drawn sample lies."""

    source: int
    index: int
    """Sample number within the source."""
    epoch: int
    """How many times all samples of the source were drawn before."""
    bucket: int = 0
    """Number of the clip's bucket (`data.buckets`)."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws from sources of `sizes` samples, mixed by whole-number `weights`.

    Raises ConfigError where a source is empty, or its weight is not 1 to MAX_WEIGHT.
    """

    sizes: tuple[int, ...]
    weights: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or not all(1 <= weight <= MAX_WEIGHT for weight in self.weights):
            raise ConfigError(
                f"each source needs a whole weight of 1 to {MAX_WEIGHT}, got {self.weights} for {self.sizes}"
            )
        if min(self.sizes, default=0) < 1:
            raise ConfigError(f"each source needs at least one sample, got sizes {self.sizes}")

    def locate(self, number: int, attempt: int = 0) -> ClipLocation:
        """Returns the sample with a global number, counted from 0.

        attempt: from 1 on, what replaces it where all attempts before are damaged: any sample of the same source.
        """
        cycle, slot = divmod(number, sum(self.weights))
        order = _order(self.seed, self.weights, cycle)
        source = order[slot]
        ordinal = cycle * self.weights[source] + order[:slot].count(source)
        epoch, place = divmod(ordinal, self.sizes[source])
        if attempt:
            rng = np.random.default_rng([self.seed, _REPLACEMENT_STREAM, number, attempt])
            index = int(rng.integers(self.sizes[source]))
        else:
            index = permuted(place, self.sizes[source], (self.seed, _EPOCH_STREAM, source, epoch))
        return ClipLocation(source=source, index=index, epoch=epoch)


@lru_cache(maxsize=64)
def _order(seed: int, weights: tuple[int, ...], cycle: int) -> tuple[int, ...]:
    """Returns the sources of one run of `sum(weights)` samples."""
    sources = np.repeat(np.arange(len(weights)), weights)
    return tuple(int(source) for source in np.random.default_rng([seed, _MIXTURE_STREAM, cycle]).permutation(sources))
