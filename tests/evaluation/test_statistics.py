"""Intervals, tests and powers against closed forms."""

import math
from itertools import product

import numpy as np
import pytest

from uniavgen.evaluation.statistics import compare, detectable_difference, estimate, sign_flip_p


def test_interval_holds_the_mean_and_shrinks_to_it_for_equal_values():
    spread = estimate([0.1, 0.4, 0.2, 0.9, 0.5])
    assert spread.low is not None
    assert spread.high is not None
    assert spread.mean == pytest.approx(0.42)
    assert spread.low < 0.42 < spread.high
    equal = estimate([2.0, 2.0, 2.0])
    assert (equal.mean, equal.low, equal.high, equal.n) == (2, 2, 2, 3)
    assert estimate([]).mean is None


def test_interval_is_that_of_the_normal_for_many_values():
    values = np.random.default_rng(5).normal(3, 2, 2000)
    spread = estimate(values.tolist())
    error = 1.95996 * values.std() / math.sqrt(len(values))
    assert spread.low == pytest.approx(values.mean() - error, abs=0.01)
    assert spread.high == pytest.approx(values.mean() + error, abs=0.01)


def test_interval_of_two_values_is_known():
    # Resampled means are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4, so both tails lie at the ends.
    spread = estimate([0.0, 1.0])
    assert (spread.low, spread.high) == (0, 1)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_equal_gains_are_as_unlikely_as_equal_coins(n):
    assert sign_flip_p([0.3] * n) == pytest.approx(2 / 2**n)


def test_sign_flip_equals_counting_all_signs():
    differences = [0.3, -0.1, 0.5, 0.2, -0.4, 0.05]
    observed = abs(sum(differences))
    reached = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=6)]
    assert sign_flip_p(differences) == pytest.approx(np.mean([value >= observed - 1e-12 for value in reached]))


def test_permutation_test_of_many_clips_is_sampled_and_never_certain():
    gains = [1.0] * (42)
    assert sign_flip_p(gains) == pytest.approx(1 / 10_001)
    noise = np.random.default_rng(1).normal(size=200)
    # Two-sided normal tail of the t statistic, which the permutation test tends to.
    t = abs(noise.mean()) / (noise.std() / math.sqrt(200))
    assert sign_flip_p(noise.tolist()) == pytest.approx(math.erfc(t / math.sqrt(2)), abs=0.02)


def test_detectable_difference_is_that_of_a_power_of_four_fifths():
    differences = [-1.0, 1.0] * 50
    deviation = math.sqrt(100 / 99)
    assert detectable_difference(differences) == pytest.approx((1.959964 + 0.841621) * deviation / 10, rel=1e-5)
    assert detectable_difference([0.5]) is None


def test_difference_of_the_detectable_size_is_found_four_times_of_five():
    rng = np.random.default_rng(2)
    size = detectable_difference((rng.normal(0, 1, 4000)).tolist())
    assert size is not None
    n = 40
    size *= math.sqrt(4000 / n)
    means = rng.normal(size, 1, (2000, n)).mean(axis=1)
    assert np.mean(np.abs(means) > 1.959964 / math.sqrt(n)) == pytest.approx(0.8, abs=0.03)


def test_comparison_of_a_constant_gain_has_no_width():
    comparison = compare([0.25] * 4)
    assert (comparison.mean, comparison.low, comparison.high, comparison.n, comparison.detectable) == (
        0.25,
        0.25,
        0.25,
        4,
        0,
    )
    assert compare([]).p is None
