"""Means with bootstrap intervals: percentile intervals over resampled clips, the same for the same numbers. [ours]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over `n` clips and its 95 % interval; None where no clip was measured."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and bootstrap interval of one number a clip; a single clip has no width."""
    if not values:
        return Estimate(mean=None, low=None, high=None, n=0)
    numbers = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(0).integers(0, len(numbers), (RESAMPLES, len(numbers)))
    low, high = np.quantile(numbers[picks].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean=float(numbers.mean()), low=float(low), high=float(high), n=len(numbers))
