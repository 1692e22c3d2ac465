"""Means with intervals, paired comparisons, and what a set of this size can show; the same for the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import stats

NUM_RESAMPLES = 10_000
"""Of the bootstrap, and of the signs where 2^n are more."""
LEVEL = 0.95
POWER = 0.8
"""Chance at which a difference of the detectable size is seen. [ours]"""


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
    """Returns the mean and the percentile bootstrap interval of one number a clip; a single clip has no width."""
    if not values:
        return Estimate(mean=None, low=None, high=None, n=0)
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean=mean, low=mean, high=mean, n=1)
    interval = stats.bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(mean=mean, low=float(interval.low), high=float(interval.high), n=len(values))


def compare(differences: Sequence[float]) -> Comparison:
    """Compares two systems by one difference a prompt that both have."""
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
    """Returns the two-sided p of the sign-flip permutation test of the mean; None without clips.

    It is exact where 2^n are at most NUM_RESAMPLES, and never 0 beyond that.
    """
    if not differences:
        return None
    if len(differences) == 1:
        # Both signs are equally far from 0.
        return 1.0
    return float(
        stats.permutation_test(
            (np.asarray(differences, dtype=np.float64),),
            lambda flipped, axis: np.abs(np.mean(flipped, axis=axis)),
            permutation_type="samples",
            n_resamples=NUM_RESAMPLES,
            alternative="greater",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).pvalue
    )


def detectable_difference(differences: Sequence[float]) -> float | None:
    """Returns (z of the two-sided level + z of the power) * standard error of the mean difference."""
    if len(differences) < 2:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(POWER)
    return float(quantiles * np.std(differences, ddof=1) / np.sqrt(len(differences)))


def auc(better: Sequence[float], worse: Sequence[float]) -> float:
    """Returns how often one of `better` is above one of `worse`; a draw counts half."""
    return float(stats.mannwhitneyu(better, worse, method="asymptotic").statistic / (len(better) * len(worse)))
