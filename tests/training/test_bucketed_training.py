"""Training on clips of several sizes and lengths: batches of one bucket, shared by processes, by clips or by tokens."""

import json
from pathlib import Path

import pytest
import torch
from tiny_run import SETTINGS, config, model, symbols

from uniavgen.apps.cli import main
from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.shards import ShardWriter
from uniavgen.distributed import ParallelContext
from uniavgen.errors import ConfigError, DataError
from uniavgen.tasks.table import Task
from uniavgen.training.config import DataConfig, TrainConfig
from uniavgen.training.dataloader import StepDataset
from uniavgen.training.stage import StageRun, build_stage_run, build_training_data, check_processes
from uniavgen.workflows.plan_training import Machine, check_training_fits

SHAPES = [(9, 4, 6), (17, 4, 6), (9, 2, 4)] * 4 + [(5, 4, 6), (9, 8, 8)]
"""Frames, rows and columns of the clips; the last two are too short, and alone with their size."""


def clip(number: int, shape: tuple[int, int, int]) -> Features:
    generator = torch.Generator().manual_seed(number)
    (frames, rows, columns), video = shape, SETTINGS.video
    timing = SETTINGS.timebase.clip(frames)
    return Features(
        key=f"clip{number}",
        text="so it is",
        speaker=f"speaker{number % 2}",
        words=(),
        mel=torch.randn(timing.num_audio_tokens, SETTINGS.audio.mel_bins, generator=generator),
        latents=torch.randn(video.latent_channels, timing.num_latent_frames, rows, columns, generator=generator),
        face_mask=torch.rand(timing.num_latent_frames, rows * columns // 4, generator=generator),
        caption=torch.randn(3, video.caption_width, generator=generator),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("features")
    with ShardWriter(path) as writer:
        writer.write(EMPTY_CAPTION, clip(0, SHAPES[0]).to_parts())
        for number, shape in enumerate(SHAPES):
            writer.write(f"clip{number}", clip(number, shape).to_parts())
    return str(path)


BUCKETS = ("data.lengths=[9,17]", "stage.losses={lip_motion: 0.0}")


def dataset(folder: str, settings: TrainConfig, context: ParallelContext | None = None) -> StepDataset:
    data = build_training_data(settings, [folder], symbols)
    context = context or ParallelContext()
    return StepDataset(data=data, mixture=settings.stage.tasks, seed=settings.train.seed, context=context)


def run(folder: str, out: Path, *overrides: str) -> StageRun:
    settings = config(*BUCKETS, *overrides)
    data = build_training_data(settings, [folder], symbols)
    return build_stage_run(settings, model(), data, out, torch.device("cpu"))


def test_all_tasks_train_on_several_sizes_and_lengths(folder, tmp_path):
    losses = {}
    stage = run(folder, tmp_path, "train.steps=12")
    stage.train([lambda record, _: losses.update({record.step: record.values["total"]})])
    data = stage.objective.dataset.data
    assert [bucket.name(16) for bucket in data.clips.buckets] == [
        "64x32 px, 9 frames",
        "96x64 px, 9 frames",
        "96x64 px, 17 frames",
    ]
    taken = {data.clips.schedule.bucket(step) for step in range(12)}
    assert taken == {0, 1, 2}
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))


def test_processes_share_the_bucket_and_the_task_of_a_step(folder):
    settings = config(*BUCKETS, "train.batch_size=4")
    whole = dataset(folder, settings)
    shares = [dataset(folder, settings, ParallelContext(rank=rank, world_size=2)) for rank in range(2)]
    shapes = set()
    for step in range(6):
        first, second = (share[step] for share in shares)
        assert first.spec == second.spec == whole[step].spec
        assert torch.equal(torch.cat([first.latents, second.latents]), whole[step].latents)
        assert [*shares[0].samples(step), *shares[1].samples(step)] == list(whole.samples(step))
        shapes.add(tuple(whole[step].latents.shape[2:]))
    assert len(shapes) > 1


def test_given_lengths_follow_the_length_of_the_bucket(folder):
    steps = dataset(folder, config(*BUCKETS))
    given = set()
    for step in range(24):
        batch = steps[step]
        if batch.spec.task is Task.ANIMATION:
            assert batch.spec.given_tokens == batch.mel.shape[1]
        if batch.spec.task is Task.DUBBING:
            assert batch.spec.given_frames == batch.latents.shape[2]
            given.add(batch.spec.given_frames)
    assert given == {3, 5}


@pytest.mark.parametrize("multiple", [1, 2])
def test_budget_of_tokens_takes_more_clips_of_small_buckets(folder, multiple):
    settings = config(*BUCKETS, "train.batch_tokens=290", f"train.batch_multiple={multiple}")
    steps = dataset(folder, settings)
    clips = steps.data.clips
    tokens = [bucket.num_tokens(SETTINGS.video.patch) for bucket in clips.buckets]
    assert list(clips.schedule.batch_sizes) == [290 // count // multiple * multiple for count in tokens]
    assert len({*clips.schedule.batch_sizes}) > 1
    for step in range(5):
        bucket = clips.schedule.bucket(step)
        assert steps[step].mel.shape[0] == clips.schedule.batch_sizes[bucket]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["train.batch_tokens=20"], ConfigError, "train.batch_tokens is 20"),
        (["data.lengths=[41]"], DataError, "too short"),
        (["data.sizes=[160x160]"], DataError, "of another picture size"),
        (["train.batch_size=9"], DataError, "fewer clips have than a batch"),
        (["train.batch_size=15"], ConfigError, "the data has 14 clips"),
        (["data.lengths=[10]"], ConfigError, "use 9 or 13"),
    ],
)
def test_buckets_that_no_clip_fits_are_refused(folder, overrides, error, message):
    with pytest.raises(error, match=message):
        dataset(folder, config(*BUCKETS, *overrides))


@pytest.mark.parametrize("size", ["96", "96x60", "x96", "0x0", "-96x64", "96x64x3"])
def test_picture_size_that_cannot_be_is_refused(size):
    with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
        DataConfig(sizes=(size,))


@pytest.mark.parametrize("lengths", ["some", "[0]", "[9, x]", "{a: 1}"])
def test_lengths_that_cannot_be_are_refused_by_the_name_of_the_setting(lengths):
    with pytest.raises(ConfigError, match=r"data\.lengths(\.\d)?: should be") as raised:
        config(f"data.lengths={lengths}")
    assert "tuple[" not in str(raised.value)


def test_named_sizes_and_lengths_choose_the_clips(folder):
    chosen = dataset(folder, config(*BUCKETS, "data.sizes=[96x64]", "data.lengths=all")).data.clips
    assert [(bucket.name(16), count) for bucket, count in zip(chosen.buckets, chosen.counts, strict=True)] == [
        ("96x64 px, 9 frames", 4),
        ("96x64 px, 17 frames", 4),
    ]
    assert chosen.describe_misfits(0).startswith("6 of 14 clips")


def test_bucket_larger_than_memory_is_refused_by_its_name(folder):
    ratios = "{joint: 1, reference_audio: 0, continuation: 0, dubbing: 0, animation: 0}"
    settings = config(*BUCKETS, f"stage.tasks.ratios={ratios}")
    heaviest = dataset(folder, settings).data.clips.heaviest(SETTINGS.video.patch)
    assert heaviest.name(16) == "96x64 px, 17 frames"
    with pytest.raises(ConfigError, match="clips of 96x64 px, 17 frames need"):
        check_training_fits(settings, [heaviest], Machine(memory=1 << 20))


def test_speech_trains_in_buckets_of_length_without_silence_to_the_longest(folder):
    ratios = "{joint: 1, reference_audio: 1, continuation: 1, dubbing: 0, animation: 0}"
    settings = config("data.lengths=[5,9,17]", "stage.branches=audio", f"stage.tasks.ratios={ratios}")
    steps = dataset(folder, settings)
    lengths = {steps[step].mel.shape[1] for step in range(20)}
    assert lengths == {SETTINGS.timebase.clip(frames).num_audio_tokens for frames in (9, 17)}


def test_batch_that_processes_cannot_share_is_refused():
    context = ParallelContext(rank=0, world_size=3)
    with pytest.raises(ConfigError, match="3 processes"):
        check_processes(config("train.batch_tokens=1000"), context)
    check_processes(config("train.batch_tokens=1000", "train.batch_multiple=6"), context)


def test_clips_that_fit_no_bucket_are_named_before_training_and_listed(tmp_path, folder, capsys):
    command = ["train", "-c", "nano/stage3", "--data", folder, "--out", str(tmp_path / "run"), "--device", "cpu"]
    small = ["model=tiny/model", "data.lengths=[9,17]", "train.steps=1", "train.batch_size=2", "train.precision=fp32"]
    more = ["train.compile=false", "stage.losses={lip_motion: 0.0}", "model.audio.speech.num_symbols=95"]
    assert main([*command, *(word for setting in [*small, *more] for word in ("-s", setting))]) == 0
    assert "2 of 14 clips" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "unfit.jsonl").read_text().splitlines()]
    assert [(row["key"], row["reason"]) for row in rows] == [
        ("clip12", "too short"),
        ("clip13", "of a size and length that fewer clips have than a batch"),
    ]
