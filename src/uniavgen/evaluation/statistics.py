"""Means with intervals, paired comparisons, what a set of this size can show; the same for the same numbers. [ours]"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from scipy import stats

RESAMPLES = 10_000
LEVEL = 0.95
POWER = 0.8
"""Chance at which a difference of the detectable size is seen. [ours]"""
MOST_EXACT = 12
"""Up to this many clips all 2^n signs are tried, beyond it RESAMPLES of them."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over `n` clips and its 95 % interval; None where no clip was measured."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems on the same prompts: mean of the differences and what can be said about it."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    p: float | None
    """Chance of a mean at least this far from 0 if the two systems were exchangeable (sign-flip test)."""
    detectable: float | None
    """Smallest true difference that n such clips show at the 5 % level in 80 of 100 trials; None for one clip."""


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and percentile bootstrap interval of one number a clip; a single clip has no width."""
    if not values:
        return Estimate(mean=None, low=None, high=None, n=0)
    numbers = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(0).integers(0, len(numbers), (RESAMPLES, len(numbers)))
    low, high = np.quantile(numbers[picks].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(mean=float(numbers.mean()), low=float(low), high=float(high), n=len(numbers))


def compare(differences: Sequence[float]) -> Comparison:
    """One difference a prompt that both systems have."""
    spread = estimate(differences)
    return Comparison(
        mean=spread.mean,
        low=spread.low,
        high=spread.high,
        n=spread.n,
        p=sign_flip_p(differences),
        detectable=detectable_difference(differences),
    )


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the sign-flip permutation test of the mean; None without clips."""
    if not differences:
        return None
    numbers = np.asarray(differences, dtype=np.float64)
    seen = abs(numbers.mean())
    # A hair less, since sums of the same terms in other orders differ in the last bits.
    reached = np.abs((_signs(len(numbers)) * numbers).mean(axis=1)) >= seen * (1 - 1e-9)
    if len(numbers) <= MOST_EXACT:
        return float(reached.mean())
    # The signs that were seen are one of the draws, so that p is never 0.
    return float((reached.sum() + 1) / (len(reached) + 1))


def detectable_difference(differences: Sequence[float]) -> float | None:
    """(z of the two-sided level + z of the power) times the standard error of the mean difference."""
    if len(differences) < 2:
        return None
    normal = NormalDist()
    reach = normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(POWER)
    return float(reach * np.std(differences, ddof=1) / np.sqrt(len(differences)))


def _signs(count: int) -> Float[np.ndarray, "draws count"]:
    if count <= MOST_EXACT:
        return np.array(list(product((-1.0, 1.0), repeat=count)))
    return np.random.default_rng(0).choice([-1.0, 1.0], (RESAMPLES, count))


def auc(better: Sequence[float], worse: Sequence[float]) -> float:
    """How often one of `better` is above one of `worse`; a draw counts half."""
    ranks = stats.rankdata([*better, *worse])
    count = len(better)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(worse)))
