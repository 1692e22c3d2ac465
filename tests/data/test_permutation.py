"""Epochs without an array are permutations, and look shuffled."""

import pytest
from scipy.stats import chisquare

from uniavgen.data.permutation import permuted


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000])
def test_permutation_holds_every_item_once(size):
    assert sorted(permuted(i, size, (3, 1, 0)) for i in range(size)) == list(range(size))


def test_permutation_of_millions_needs_no_array():
    size = 41_000_000
    drawn = {permuted(i, size, (3, 1, 0)) for i in range(2000)}
    assert len(drawn) == 2000
    assert max(drawn) < size
    # Uniform over the range: each tenth holds about 200.
    assert chisquare([sum(item * 10 // size == tenth for item in drawn) for tenth in range(10)]).pvalue > 0.001


def test_permutations_of_different_seeds_are_independent():
    size, orders = 6, [tuple(permuted(i, 6, (seed, 1, 0)) for i in range(6)) for seed in range(3000)]
    for place in range(size):
        counts = [sum(order[place] == item for order in orders) for item in range(size)]
        assert chisquare(counts).pvalue > 0.001
    followers = [sum(order[1] == (order[0] + step) % size for order in orders) for step in range(1, size)]
    assert chisquare(followers).pvalue > 0.001


@pytest.mark.parametrize("position", [-1, 7])
def test_permutation_refuses_places_outside(position):
    with pytest.raises(IndexError):
        permuted(position, 7, (0,))
