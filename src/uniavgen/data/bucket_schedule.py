"""Which bucket a training step takes, and how many clips of it: a pure function of (seed, step).

Steps are mixed exactly, as sources are (`data.sampler`): every cycle of steps holds each bucket as often as its share
of the clips says, in an order of its own. So how many clips of a bucket were taken before a step follows from the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np
from jaxtyping import Int64

_SCHEDULE_STREAM: Final = 4
"""Second word of the seed; `data.sampler` says which others there are."""
_CYCLE_STEPS: Final = 100_000
"""About so many steps hold each bucket by its share. [ours]"""


@dataclass(frozen=True, kw_only=True)
class BucketSchedule:
    """The buckets of steps, and the global numbers of their samples: step after step without a gap."""

    steps: tuple[int, ...]
    """Steps of each bucket in a cycle."""
    batch_sizes: tuple[int, ...]
    """Clips a step of each bucket, over all processes."""
    seed: int

    @classmethod
    def by_shares(cls, shares: Sequence[float], batch_sizes: Sequence[int], seed: int) -> "BucketSchedule":
        """Returns the schedule in which a bucket gets its share of the samples, each at least one step a cycle."""
        step_shares = np.array(shares) / np.array(batch_sizes)
        steps = [max(round(_CYCLE_STEPS * share), 1) for share in (step_shares / step_shares.sum()).tolist()]
        divisor = gcd(*steps)
        return cls(steps=tuple(number // divisor for number in steps), batch_sizes=tuple(batch_sizes), seed=seed)

    def bucket(self, step: int) -> int:
        """Returns the bucket of a step, counted from 0."""
        cycle, slot = divmod(step, sum(self.steps))
        return int(_cycle(self, cycle).buckets[slot])

    def samples(self, step: int) -> range:
        """Returns the global sample numbers of a step, over all processes."""
        cycle, slot = divmod(step, sum(self.steps))
        laid_out = _cycle(self, cycle)
        first = cycle * self._cycle_samples + int(laid_out.samples_before[slot])
        return range(first, first + self.batch_sizes[laid_out.buckets[slot]])

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the bucket of a global sample number, and the sample's number within the bucket."""
        cycle, within = divmod(number, self._cycle_samples)
        laid_out = _cycle(self, cycle)
        slot = int(np.searchsorted(laid_out.samples_before, within, side="right")) - 1
        bucket = int(laid_out.buckets[slot])
        steps_before = cycle * self.steps[bucket] + int(laid_out.steps_before[slot])
        return bucket, steps_before * self.batch_sizes[bucket] + within - int(laid_out.samples_before[slot])

    @property
    def _cycle_samples(self) -> int:
        return sum(steps * size for steps, size in zip(self.steps, self.batch_sizes, strict=True))


@dataclass(frozen=True)
class _Cycle:
    buckets: Int64[np.ndarray, " steps"]
    samples_before: Int64[np.ndarray, " steps"]
    """In the cycle, of all buckets."""
    steps_before: Int64[np.ndarray, " steps"]
    """In the cycle, of the same bucket."""


@lru_cache(maxsize=2)
def _cycle(schedule: BucketSchedule, cycle: int) -> _Cycle:
    steps, sizes = np.array(schedule.steps), np.array(schedule.batch_sizes, np.int64)
    rng = np.random.default_rng([schedule.seed, _SCHEDULE_STREAM, cycle])
    buckets = rng.permutation(np.repeat(np.arange(len(steps)), steps))
    samples_before = np.cumsum(sizes[buckets]) - sizes[buckets]
    steps_before = np.empty(len(buckets), np.int64)
    for bucket, count in enumerate(schedule.steps):
        steps_before[buckets == bucket] = np.arange(count)
    return _Cycle(buckets, samples_before, steps_before)
