"""Buckets: which clips are together, that a step takes one of them, and that an epoch of a bucket repeats nothing."""

import time
from collections import Counter

import numpy as np
import pytest
import torch

from uniavgen.data.bucket_schedule import BucketSchedule
from uniavgen.data.buckets import Bucket, BucketRule, ClipBuckets, Misfit, _Members, lengths_of, sizes_of
from uniavgen.data.feature_index import FeatureIndex
from uniavgen.data.features import Features, FeatureSet
from uniavgen.data.sampler import Sampler
from uniavgen.data.shards import ShardWriter
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase

BASE = Timebase()
SHAPES = {"a": (17, 4, 6), "b": (33, 4, 6), "c": (25, 8, 4), "d": (9, 4, 6), "e": (33, 2, 2), "f": (36, 4, 6)}
"""Frames, rows and columns; "f" is longer than 1 + 4n."""
CLIPS = ("a", "b", "a", "c", "b", "a", "d", "c", "a", "e", "b", "f")


def write(folder, shapes, with_video=True):
    with ShardWriter(folder) as writer:
        for number, (frames, rows, columns) in enumerate(shapes):
            tokens = int(frames / BASE.fps * BASE.tokens_per_second)
            latents = torch.zeros(3, BASE.latent_frames(frames), rows, columns) if with_video else None
            clip = Features(
                key=f"clip{number}", text="so", speaker="x", words=(), mel=torch.zeros(tokens, 5), latents=latents
            )
            writer.write(clip.key, clip.to_parts())
    return FeatureSet(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write(tmp_path_factory.mktemp("buckets"), [SHAPES[name] for name in CLIPS])


def rule(lengths=(17, 33), sizes=((4, 6), (8, 4))):
    return BucketRule(lengths=tuple(BASE.clip(length) for length in lengths), sizes=sizes)


TWO_SIZES = rule()


def laid_out(*sources, weights=None, rule=TWO_SIZES, batch_size=1, seed=0):
    size = batch_size if callable(batch_size) else lambda _: batch_size
    return ClipBuckets(sources, weights or (1,) * len(sources), rule, size, seed)


def names(buckets):
    return [bucket.name(16) for bucket in buckets]


def drawn_keys(source, buckets, numbers):
    return [source.index.key(buckets.locate(number).index) for number in numbers]


def test_clip_is_in_the_longest_bucket_of_its_size_that_it_fills(clips):
    numbers = rule().assign(clips.index, slice(None))
    expected = {"a": 0, "b": 1, "c": 2, "d": Misfit.TOO_SHORT, "e": Misfit.OTHER_SIZE, "f": 1}
    assert numbers.tolist() == [expected[name] for name in CLIPS]
    assert names(rule().buckets) == [
        "96x64 px, 17 frames",
        "96x64 px, 33 frames",
        "64x128 px, 17 frames",
        "64x128 px, 33 frames",
    ]


def test_clip_must_fill_a_length_in_both_modalities(tmp_path):
    timing = BASE.clip(33)
    with ShardWriter(tmp_path) as writer:
        for number, tokens in enumerate((timing.num_audio_tokens, timing.num_audio_tokens - 1)):
            latents = torch.zeros(3, timing.num_latent_frames, 4, 6)
            clip = Features(
                key=f"{number}", text="so", speaker="x", words=(), mel=torch.zeros(tokens, 5), latents=latents
            )
            writer.write(clip.key, clip.to_parts())
    assert rule().assign(FeatureSet(tmp_path).index, slice(None)).tolist() == [1, 0]


def test_sizes_and_lengths_may_be_those_of_the_data(clips, tmp_path):
    assert sizes_of([clips.index]) == ((2, 2), (4, 6), (8, 4))
    assert [timing.num_frames for timing in lengths_of([clips.index], BASE, True)] == [9, 17, 25, 33, 37]
    speech = write(tmp_path, [(33, 0, 0), (41, 0, 0), (193, 0, 0)], with_video=False)
    assert [timing.num_frames for timing in lengths_of([speech.index], BASE, False)] == [33, 41, 193]


@pytest.mark.parametrize("blocks", [False, True])
def test_epoch_of_a_bucket_holds_each_of_its_clips_once(clips, monkeypatch, blocks):
    if blocks:
        monkeypatch.setattr("uniavgen.data.buckets._BLOCK", 5)
    buckets = laid_out(clips)
    assert buckets.counts == (4, 4, 2)
    taken = {bucket: [] for bucket in range(3)}
    for number in range(150):
        location = buckets.locate(number)
        taken[location.bucket].append((location.epoch, clips.index.key(location.index)))
    for bucket, letters in enumerate(("a", "bf", "c")):
        expected = {f"clip{number}" for number, name in enumerate(CLIPS) if name in letters}
        epochs = [[key for epoch, key in taken[bucket] if epoch == each] for each in range(5)]
        assert all(set(keys) == expected and len(keys) == len(expected) for keys in epochs)
        assert len({tuple(keys) for keys in epochs}) > 1
    # Every clip is taken as often as every other.
    assert Counter(location for pairs in taken.values() for location in pairs).most_common(1)[0][1] == 1
    assert max(len(taken[b]) / buckets.counts[b] for b in taken) == min(
        len(taken[b]) / buckets.counts[b] for b in taken
    )


def test_step_takes_one_bucket_and_its_samples_follow_the_step_before(clips):
    buckets = laid_out(clips, batch_size=lambda bucket: {17: 2, 33: 1}[bucket.timing.num_frames])
    schedule, num_taken = buckets.schedule, Counter()
    cycle = sum(schedule.steps)
    for steps in (range(60), range(cycle - 60, cycle + 60)):
        for step in steps:
            samples = schedule.samples(step)
            assert samples.start == (schedule.samples(step - 1).stop if step else 0)
            assert len(samples) == schedule.batch_sizes[schedule.bucket(step)]
            located = [buckets.locate(number) for number in samples]
            assert {location.bucket for location in located} == {schedule.bucket(step)}
            num_taken.update((location.epoch, location.index) for location in located)
    assert set(num_taken.values()) == {1}


def test_schedule_is_a_function_of_seed_and_step():
    def schedule(seed):
        return BucketSchedule.by_shares((0.5, 0.3, 0.2), (4, 4, 4), seed)

    order = [[schedule(seed).bucket(step) for step in range(2000)] for seed in (0, 0, 1)]
    assert order[0] == order[1] != order[2]
    assert np.bincount(order[0]) / 2000 == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 4, 2), (1, 32, 64)])
def test_buckets_get_their_share_of_the_clips_whatever_their_batches_are(sizes):
    schedule = BucketSchedule.by_shares((0.7, 0.29, 0.01), sizes, 0)
    steps = range(sum(schedule.steps))
    clips = Counter()
    for step in steps:
        clips[schedule.bucket(step)] += len(schedule.samples(step))
    assert [clips[b] / clips.total() for b in range(3)] == pytest.approx([0.7, 0.29, 0.01], rel=0.05)


@pytest.mark.parametrize("weights", [(1, 1), (3, 1)])
def test_one_bucket_draws_the_samples_of_the_sampler(clips, tmp_path, weights):
    other = write(tmp_path, [SHAPES["b"]] * 5)
    same = write(tmp_path / "same", [SHAPES["b"]] * 3)
    buckets = laid_out(other, same, weights=weights, rule=rule(lengths=(33,), sizes=((4, 6),)), batch_size=4)
    sampler = Sampler(sizes=(5, 3), weights=weights, seed=0)
    assert [buckets.locate(number) for number in range(60)] == [sampler.locate(number) for number in range(60)]
    assert [buckets.schedule.samples(step) for step in range(3)] == [range(4 * step, 4 * step + 4) for step in range(3)]


def test_sources_keep_their_weights_over_all_buckets(clips, tmp_path):
    other = write(tmp_path, [SHAPES["a"]] * 2 + [SHAPES["c"]] * 8)
    buckets = laid_out(clips, other, weights=(3, 1))
    located = [buckets.locate(number) for number in range(1200)]
    sources = Counter(location.source for location in located)
    assert sources[0] / sources[1] == pytest.approx(3, rel=0.05)
    keys = Counter(location.index for location in located if location.source == 1)
    assert max(keys.values()) / min(keys.values()) < 1.2


def test_clips_of_a_length_that_few_have_go_into_the_next_shorter_one(clips):
    lengths = rule(lengths=(9, 17, 25, 33), sizes=((4, 6),))
    counts = {"9": 1, "17": 4, "33": 4}
    assert names(laid_out(clips, rule=lengths).buckets) == [f"96x64 px, {frames} frames" for frames in counts]
    buckets = laid_out(clips, rule=lengths, batch_size=5)
    assert [
        (bucket.timing.num_frames, count) for bucket, count in zip(buckets.buckets, buckets.counts, strict=True)
    ] == [(17, 8)]
    taken = Counter(buckets.locate(number).index for number in range(8))
    assert {clips.index.key(i) for i in taken} == {f"clip{n}" for n, name in enumerate(CLIPS) if name in "abf"}
    assert buckets.misfits(0)[Misfit.FEW] == (1, 6)


def test_clips_that_fit_no_bucket_are_counted_and_named(clips):
    buckets = laid_out(clips, batch_size=3)
    assert buckets.misfits(0) == {Misfit.OTHER_SIZE: (1, 9), Misfit.TOO_SHORT: (1, 6), Misfit.FEW: (2, 3)}
    text = buckets.describe_misfits(0)
    assert "4 of 12 clips" in text
    assert "first 'clip6' of 3 latent frames of 4x6 and 56 audio tokens" in text
    assert dict(buckets.misfit_keys(0)) == {
        "clip9": Misfit.OTHER_SIZE,
        "clip6": Misfit.TOO_SHORT,
        "clip3": Misfit.FEW,
        "clip7": Misfit.FEW,
    }
    assert {buckets.locate(number).bucket for number in range(100)} == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": rule(lengths=(41,))}, "too short"),
        ({"rule": rule(sizes=((9, 9),))}, "of another picture size"),
        ({"batch_size": 9}, "fewer clips have than a batch"),
    ],
)
def test_data_of_which_nothing_fits_is_refused(clips, options, message):
    with pytest.raises(DataError, match=message):
        laid_out(clips, **options)


def test_speech_without_video_is_refused_where_video_is_trained(tmp_path):
    speech = write(tmp_path, [(33, 0, 0)], with_video=False)
    with pytest.raises(DataError, match="prepare it with a video VAE"):
        laid_out(speech)
    assert laid_out(speech, rule=BucketRule(lengths=(BASE.clip(17),))).counts == (1,)


def test_tokens_of_a_bucket_are_those_of_both_modalities():
    assert Bucket(timing=BASE.clip(81), rows=46, columns=46).num_tokens((1, 2, 2)) == 21 * 23 * 23 + 506
    assert Bucket(timing=BASE.clip(81)).num_tokens((1, 2, 2)) == 506


def test_buckets_of_millions_of_clips_take_seconds_and_no_memory_a_clip():
    rng = np.random.default_rng(0)
    number = 2_000_000
    tokens = rng.integers(200, 1200, number).astype(np.uint16)
    # An index without a file.
    index = FeatureIndex.__new__(FeatureIndex)
    index.audio_tokens, index.latent_frames = tokens, np.zeros(number, np.uint16)
    lengths = BucketRule(lengths=tuple(BASE.clip(1 + 16 * n) for n in range(2, 13)))
    began = time.perf_counter()
    members = _Members(index, lengths)
    assert time.perf_counter() - began < 5
    assert members._before.nbytes < number / 4
    fits = np.flatnonzero((tokens >= BASE.clip(49).num_audio_tokens) & (tokens < BASE.clip(65).num_audio_tokens))
    assert members.count(1) == len(fits)
    assert [members.clip(1, place) for place in (0, 1000, len(fits) - 1)] == fits[[0, 1000, -1]].tolist()
