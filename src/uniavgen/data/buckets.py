"""Buckets: clips of one picture size and one length, the only ones that a batch can hold together.

A clip goes into the bucket of its own size with the longest length that it fills in both modalities, and is cut to it;
where fewer clips than a batch fill a length, they go into the next shorter one.
Nothing is stored for a clip: what is in which bucket follows from the index, block by block.

Letters: n clips.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from functools import cached_property
from math import ceil, lcm
from typing import Final

import numpy as np
from jaxtyping import Int64

from uniavgen.data.bucket_schedule import BucketSchedule
from uniavgen.data.feature_index import FeatureIndex
from uniavgen.data.features import FeatureSet
from uniavgen.data.sampler import ClipLocation, Sampler
from uniavgen.errors import DataError
from uniavgen.timebase import ClipTiming, Timebase

_BLOCK: Final = 4096
"""Clips whose buckets are computed together, so that 41 million clips need some MB. [ours]"""
_MAX_CYCLE: Final = 1000
"""Samples of a bucket that hold each source by its share. [ours]"""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A length and a size of the latent grid."""

    timing: ClipTiming
    rows: int = 0
    """Of the latent grid; 0 for speech alone."""
    columns: int = 0

    def num_tokens(self, patch: tuple[int, int, int]) -> int:
        """Returns the video and audio tokens of a clip."""
        _, patch_rows, patch_columns = patch
        grid = (self.rows // patch_rows) * (self.columns // patch_columns)
        return self.timing.num_latent_frames * grid + self.timing.num_audio_tokens

    def name(self, stride_px: int) -> str:
        """Returns size and length for people. stride_px: pixels a side of a cell of the grid."""
        frames = f"{self.timing.num_frames} frames"
        return f"{self.columns * stride_px}x{self.rows * stride_px} px, {frames}" if self.rows else frames


class Misfit(IntEnum):
    """Why a clip is in no bucket."""

    NO_VIDEO = -4
    OTHER_SIZE = -3
    TOO_SHORT = -2
    FEW = -1
    """Its bucket has fewer clips than a batch."""

    @property
    def reason(self) -> str:
        """Returns the reason for people."""
        return {
            Misfit.NO_VIDEO: "without video",
            Misfit.OTHER_SIZE: "of another picture size",
            Misfit.TOO_SHORT: "too short",
            Misfit.FEW: "of a size and length that fewer clips have than a batch",
        }[self]


@dataclass(frozen=True, kw_only=True)
class BucketRule:
    """Which lengths and sizes there are."""

    lengths: tuple[ClipTiming, ...]
    """The shortest first."""
    sizes: tuple[tuple[int, int], ...] | None = None
    """Rows and columns of the latent grid, rising; None for speech alone, whose clips differ in length only."""
    merged: tuple[int, ...] = ()
    """For each bucket the one that its clips go into; each its own where empty."""

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """Returns every length of every size."""
        sizes = ((0, 0),) if self.sizes is None else self.sizes
        return tuple(Bucket(timing=timing, rows=r, columns=c) for r, c in sizes for timing in self.lengths)

    def assign(self, index: FeatureIndex, clips: slice) -> Int64[np.ndarray, " n"]:
        """Returns the bucket of each clip, or a Misfit.

        One that is known to be damaged counts for the first bucket, so that it is drawn, replaced and counted.
        """
        tokens = np.asarray(index.audio_tokens[clips])
        filled = np.searchsorted([timing.num_audio_tokens for timing in self.lengths], tokens, side="right")
        if self.sizes is not None:
            frames = np.asarray(index.latent_frames[clips])
            latents = np.searchsorted([timing.num_latent_frames for timing in self.lengths], frames, side="right")
            filled = np.minimum(filled, latents)
            known, codes = np.array([_code(*size) for size in self.sizes or ((0, 0),)]), _codes(index, clips)
            size = np.searchsorted(known, codes).clip(max=len(known) - 1)
            number = size * len(self.lengths) + filled - 1
            number[filled == 0] = Misfit.TOO_SHORT
            number[known[size] != codes] = Misfit.OTHER_SIZE
            number[frames == 0] = Misfit.NO_VIDEO
        else:
            number = np.where(filled == 0, int(Misfit.TOO_SHORT), filled - 1)
        number[tokens == 0] = 0
        if self.merged:
            number = np.where(number < 0, number, np.array(self.merged)[number])
        return number.astype(np.int64)

    def merge(self, totals: Sequence[int], batch_size: Callable[[Bucket], int]) -> "BucketRule":
        """Returns the rule in which a bucket with fewer clips than a batch goes into the next shorter one.

        totals: clips of each bucket.
        """
        merged, num_lengths = list(range(len(self.buckets))), len(self.lengths)
        for shortest in range(0, len(merged), num_lengths):
            carried = 0
            for number in range(shortest + num_lengths - 1, shortest, -1):
                total = totals[number] + carried
                is_small = bool(total) and total < batch_size(self.buckets[number])
                merged[number], carried = (number - 1, total) if is_small else (number, 0)
        for number, target in enumerate(merged):
            merged[number] = merged[target]
        return replace(self, merged=tuple(merged))


def _code(rows: int, columns: int) -> int:
    return rows << 16 | columns


def _codes(index: FeatureIndex, clips: slice) -> Int64[np.ndarray, " n"]:
    return index.rows[clips].astype(np.int64) << 16 | index.columns[clips]


def sizes_of(indexes: Sequence[FeatureIndex]) -> tuple[tuple[int, int], ...]:
    """Returns rows and columns of all latent grids in feature sets, rising."""
    codes = {int(code) for index in indexes for code in np.unique(_codes(index, slice(None)))} - {0}
    return tuple((code >> 16, code & 0xFFFF) for code in sorted(codes))


def lengths_of(indexes: Sequence[FeatureIndex], base: Timebase, with_video: bool) -> tuple[ClipTiming, ...]:
    """Returns the lengths that clips of feature sets have, the shortest first."""
    columns = [index.latent_frames if with_video else index.audio_tokens for index in indexes]
    lengths = {int(length) for column in columns for length in np.unique(column)} - {0}
    if not with_video:
        # The longest clips that have no more whole tokens than these.
        frames = [ceil((tokens + 1) * base.fps / base.tokens_per_second) - 1 for tokens in lengths]
        lengths = {(number - 1) // base.temporal_stride + 1 for number in frames if number > 0}
    return tuple(base.clip(base.frames_in(length)) for length in sorted(lengths))


class _Members:
    """The clips of one feature set by their buckets, each in rising order."""

    def __init__(self, index: FeatureIndex, rule: BucketRule) -> None:
        self._index, self._rule = index, rule
        kinds = len(rule.buckets) - min(Misfit)
        blocks = [self._numbers(block) - min(Misfit) for block in range(-(-len(index) // _BLOCK))]
        counts = np.array([np.bincount(block, minlength=kinds) for block in blocks]).reshape(-1, kinds)
        # Clips before each block, for each Misfit and bucket; the last row is of all.
        self._before = np.concatenate([np.zeros((1, kinds), np.int64), np.cumsum(counts, axis=0)])

    def count(self, bucket: int) -> int:
        """Returns how many clips a bucket, or a Misfit, has."""
        return int(self._before[-1, bucket - min(Misfit)])

    def clip(self, bucket: int, place: int) -> int:
        """Returns the number in the feature set of a clip of a bucket."""
        if self.count(bucket) == len(self._index):
            return place
        before = self._before[:, bucket - min(Misfit)]
        block = int(np.searchsorted(before, place, side="right")) - 1
        inside = np.flatnonzero(self._numbers(block) == bucket)
        return block * _BLOCK + int(inside[place - before[block]])

    def clips(self, bucket: int) -> Iterator[int]:
        """Yields the numbers in the feature set of all clips of a bucket."""
        for block in range(len(self._before) - 1):
            yield from (block * _BLOCK + int(i) for i in np.flatnonzero(self._numbers(block) == bucket))

    def _numbers(self, block: int) -> Int64[np.ndarray, " n"]:
        return self._rule.assign(self._index, slice(block * _BLOCK, (block + 1) * _BLOCK))


class ClipBuckets:
    """The clips of feature sets in buckets, and the order in which training takes them.

    Attributes:
        sources: the feature sets.
        buckets: those that training takes.
        counts: clips of each.
        schedule: which of them a step takes.
    """

    def __init__(
        self,
        sources: Sequence[FeatureSet],
        weights: Sequence[int],
        rule: BucketRule,
        batch_size: Callable[[Bucket], int],
        seed: int,
    ) -> None:
        """Lays the clips out.

        weights: shares of the feature sets in the samples. batch_size: clips a step of a bucket, over all processes.
        Raises DataError where no clip of a set is in a bucket that has a whole batch.
        """
        self.sources, self._rule, self._seed = tuple(sources), rule, seed
        self._members, totals = _count(self.sources, rule)
        merged = rule.merge(totals, batch_size)
        if merged.merged != tuple(range(len(totals))):
            self._members, totals = _count(self.sources, merged)
        sizes = [batch_size(bucket) if total else 0 for bucket, total in zip(rule.buckets, totals, strict=True)]
        # Numbers in the rule: of the buckets that are taken, and of those that are left out.
        self._taken = [number for number, total in enumerate(totals) if total and total >= sizes[number]]
        self._left_out = [number for number, total in enumerate(totals) if total and number not in self._taken]
        self.buckets = tuple(rule.buckets[number] for number in self._taken)
        self.counts = tuple(totals[number] for number in self._taken)
        fitting = [sum(member.count(number) for number in self._taken) for member in self._members]
        for number, count in enumerate(fitting):
            if not count:
                raise self._no_fit(number)
        parts = [
            [Fraction(weight * member.count(number), total) for number in self._taken]
            for weight, member, total in zip(weights, self._members, fitting, strict=True)
        ]
        self._sources = [[s for s, part in enumerate(parts) if part[b]] for b in range(len(self.buckets))]
        self._samplers = [
            Sampler(
                sizes=tuple(self._members[source].count(self._taken[b]) for source in present),
                weights=_whole([parts[source][b] for source in present]),
                seed=seed,
            )
            for b, present in enumerate(self._sources)
        ]
        shares = [float(sum(part[b] for part in parts)) for b in range(len(self.buckets))]
        self.schedule = BucketSchedule.by_shares(shares, [sizes[number] for number in self._taken], seed)

    def of_held_out(self, source: FeatureSet) -> "ClipBuckets":
        """Returns the clips of another feature set in these lengths and its own sizes, one a step."""
        rule = self._rule if self._rule.sizes is None else replace(self._rule, sizes=sizes_of([source.index]))
        return ClipBuckets([source], (1,), rule, lambda _: 1, self._seed)

    @property
    def base(self) -> Timebase:
        """Returns the rates of the clips."""
        return self.buckets[0].timing.base

    @property
    def largest(self) -> Bucket:
        """Returns the bucket with most clips."""
        return max(zip(self.counts, self.buckets, strict=True), key=lambda pair: pair[0])[1]

    def heaviest(self, patch: tuple[int, int, int]) -> Bucket:
        """Returns the bucket with most tokens a step, of those with as many the one with most tokens a clip."""

        def tokens(pair: tuple[Bucket, int]) -> tuple[int, int]:
            bucket, batch_size = pair
            return batch_size * bucket.num_tokens(patch), bucket.num_tokens(patch)

        return max(zip(self.buckets, self.schedule.batch_sizes, strict=True), key=tokens)[0]

    def locate(self, number: int, attempt: int = 0) -> ClipLocation:
        """Returns the clip with a global sample number. attempt: see `sampler.Sampler`; the bucket stays the same."""
        bucket, ordinal = self.schedule.locate(number)
        found = self._samplers[bucket].locate(ordinal, attempt)
        source = self._sources[bucket][found.source]
        clip = self._members[source].clip(self._taken[bucket], found.index)
        return replace(found, bucket=bucket, source=source, index=clip)

    def misfits(self, source: int) -> dict[Misfit, tuple[int, int]]:
        """Returns why clips of a feature set are in no bucket: for each reason their count and the first one."""
        members, found = self._members[source], {}
        for misfit in Misfit:
            present = [number for number in self._numbers_of(misfit) if members.count(number)]
            if present:
                first = min(next(members.clips(number)) for number in present)
                found[misfit] = sum(map(members.count, present)), first
        return found

    def misfit_keys(self, source: int) -> Iterator[tuple[str, Misfit]]:
        """Yields the key of every clip of a feature set that is in no bucket, and why."""
        for misfit in Misfit:
            for number in self._numbers_of(misfit):
                for clip in self._members[source].clips(number):
                    yield self.sources[source].index.key(clip), misfit

    def describe_misfits(self, source: int) -> str:
        """Returns how many clips of a feature set are in no bucket, and why; empty where there are none."""
        found, index = self.misfits(source), self.sources[source].index
        reasons = []
        for misfit, (count, first) in found.items():
            grid = f"{index.latent_frames[first]} latent frames of {index.rows[first]}x{index.columns[first]} and "
            shape = f"{grid if index.rows[first] else ''}{index.audio_tokens[first]} audio tokens"
            reasons.append(f"{count} {misfit.reason}, first '{index.key(first)}' of {shape}")
        count = sum(count for count, _ in found.values())
        text = f"{count} of {len(index)} clips in {self.sources[source].folder} fit no bucket: {'; '.join(reasons)}"
        return text if found else ""

    def _numbers_of(self, misfit: Misfit) -> Sequence[int]:
        return self._left_out if misfit is Misfit.FEW else (int(misfit),)

    def _no_fit(self, source: int) -> DataError:
        if not len(self.sources[source]):
            return DataError(f"{self.sources[source].folder} holds no clips; give a folder of `uniavgen prepare`")
        if Misfit.NO_VIDEO in self.misfits(source):
            return DataError(f"{self.describe_misfits(source)}; prepare it with a video VAE")
        return DataError(
            f"{self.describe_misfits(source)}; prepare it again with the lengths and sizes of these settings "
            "(data.num_frames, data.lengths, data.sizes), or change them"
        )


def _count(sources: Sequence[FeatureSet], rule: BucketRule) -> tuple[list[_Members], list[int]]:
    """Returns the clips of feature sets by their buckets, and how many each bucket has."""
    members = [_Members(source.index, rule) for source in sources]
    return members, [sum(member.count(number) for member in members) for number in range(len(rule.buckets))]


def _whole(parts: Sequence[Fraction]) -> tuple[int, ...]:
    """Returns whole numbers in the ratio of `parts`, rounded where their sum would be large."""
    scale = lcm(*(part.denominator for part in parts))
    if scale == 1 or sum(parts) * scale <= _MAX_CYCLE:
        return tuple(int(part * scale) for part in parts)
    return tuple(max(round(_MAX_CYCLE * part / sum(parts)), 1) for part in parts)
