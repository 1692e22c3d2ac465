"""Mixing is exact, epochs are permutations, and nothing depends on how the work is divided."""

from collections import Counter

import pytest

from uniavgen.data.sampler import Sampler
from uniavgen.errors import ConfigError

SAMPLER = Sampler(sizes=(7, 5), weights=(4, 1), seed=3)


def test_sampler_mixes_every_run_of_samples_exactly():
    for cycle in range(20):
        sources = Counter(SAMPLER.locate(5 * cycle + i).source for i in range(5))
        assert sources == {0: 4, 1: 1}


def test_sampler_epochs_are_different_permutations():
    drawn = [SAMPLER.locate(number) for number in range(5 * 70)]
    for source, size in enumerate(SAMPLER.sizes):
        order = [draw.index for draw in drawn if draw.source == source]
        epochs = [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_sampler_needs_no_samples_before():
    forwards = [SAMPLER.locate(number) for number in range(100)]
    fresh = Sampler(sizes=(7, 5), weights=(4, 1), seed=3)
    assert [fresh.locate(number) for number in reversed(range(100))] == forwards[::-1]


def test_sampler_seeds_differ():
    other = Sampler(sizes=(7, 5), weights=(4, 1), seed=4)
    assert [other.locate(n) for n in range(50)] != [SAMPLER.locate(n) for n in range(50)]


@pytest.mark.parametrize(("sizes", "weights"), [((3,), (0,)), ((3, 2), (1,)), ((0,), (1,)), ((3,), (10**9,)), ((), ())])
def test_sampler_refuses_impossible_mixtures(sizes, weights):
    with pytest.raises(ConfigError):
        Sampler(sizes=sizes, weights=weights, seed=0)
