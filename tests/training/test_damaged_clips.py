"""A damaged clip is replaced by the same other one however the work is divided, counted, and past a share told."""

import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_run import NUM_CLIPS, config, run, write_features

from uniavgen.distributed import ParallelContext
from uniavgen.errors import DataError
from uniavgen.training.data_watch import DataWatch
from uniavgen.training.dataloader import load_batches

STEPS = 12
DAMAGED = "clip3"


def damage(folder: str, key: str = DAMAGED) -> None:
    """Changes a byte in the tensors of a clip."""
    (path,) = Path(folder).glob("*.tar")
    with tarfile.open(path) as tar:
        offset = tar.getmember(f"{key}.safetensors").offset_data
    content = bytearray(path.read_bytes())
    content[offset + 300] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> str:
    folder = write_features(tmp_path_factory.mktemp("damaged"))
    damage(folder)
    return folder


def settings(**data: str):
    tolerant = {"max_damaged_share": "1.0", **data}
    return config(
        f"train.steps={STEPS}",
        "stage.tasks.ratios={joint: 1, reference_audio: 1, continuation: 0, dubbing: 0, animation: 0}",
        *(f"data.{name}={value}" for name, value in tolerant.items()),
    )


def batches(folder: str, first: int = 0, workers: int = 0, context: ParallelContext | None = None):
    dataset = run(folder, Path(folder), settings()).objective.dataset
    if context is not None:
        dataset = replace(dataset, context=context)
    return list(load_batches(dataset, first, STEPS, workers))


def assert_equal(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine.mel, other.mel)
        assert torch.equal(mine.latents, other.latents)
        assert mine.damaged == other.damaged
        if mine.reference_audio is not None:
            assert torch.equal(mine.reference_audio, other.reference_audio)


def test_damaged_clip_is_replaced_by_one_of_the_others(damaged, tmp_path):
    whole = batches(write_features(tmp_path / "whole"))
    broken = batches(damaged)
    clips = {tuple(mel.flatten()[:5].tolist()) for batch in broken for mel in batch.mel}
    everything = {tuple(mel.flatten()[:5].tolist()) for batch in whole for mel in batch.mel}
    assert len(clips) == NUM_CLIPS - 1
    assert clips < everything
    assert any(batch.damaged for batch in broken)
    for batch, other in zip(broken, whole, strict=True):
        assert all(DAMAGED in message for message in batch.damaged)
        if not batch.damaged:
            assert torch.equal(batch.mel, other.mel)


def test_replacement_does_not_depend_on_workers_or_on_resuming(damaged):
    straight = batches(damaged)
    assert_equal(batches(damaged, workers=2), straight)
    assert_equal(batches(damaged, first=5), straight[5:])


def test_replacement_does_not_depend_on_the_number_of_processes(damaged):
    one = batches(damaged)
    two = [batches(damaged, context=ParallelContext(rank=rank, world_size=2)) for rank in range(2)]
    for whole, first, second in zip(one, *two, strict=True):
        assert torch.equal(torch.cat([first.mel, second.mel]), whole.mel)
        assert torch.equal(torch.cat([first.latents, second.latents]), whole.latents)
        assert sorted((*first.damaged, *second.damaged)) == sorted(whole.damaged)


def test_damaged_clips_are_counted_in_the_record_of_a_step(damaged, tmp_path):
    counts = []
    one = run(damaged, tmp_path, settings())
    one.train([lambda record, state: counts.append(record.data.num_damaged)])
    expected = [len(batch.damaged) for batch in batches(damaged)]
    assert counts == [sum(expected[: step + 1]) for step in range(STEPS)]
    assert counts[-1] > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_run_ends_with_the_name_of_the_file_past_the_share_of_damaged_clips(damaged, tmp_path, workers):
    one = run(damaged, tmp_path, settings(max_damaged_share="0.1", workers=str(workers)))
    with pytest.raises(DataError, match=rf"data.max_damaged_share = 0.1 allows; first '{DAMAGED}.*shard-000000.tar"):
        one.train()


def test_run_ends_in_one_sentence_where_no_clip_can_be_used(tmp_path):
    folder = write_features(tmp_path / "features")
    one = run(folder, tmp_path, settings(workers="1", memory_gb="0"))
    for number in range(NUM_CLIPS):
        damage(folder, f"clip{number}")
    with pytest.raises(DataError, match=r"^16 clips in a row cannot be used; the last: .*\Z"):
        one.train()


def _watch(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    watch = DataWatch(max_damaged_share=0.5, num_clips=4, context=ParallelContext(rank=rank, world_size=2))
    report = watch.report(["'a' is damaged"] * rank, 1, wait_s=1.0 + rank)
    with pytest.raises(DataError) as caught:
        watch.report(["'b' is damaged", "'c' is damaged"][rank:], 1, wait_s=0.0)
    Path(folder, f"rank{rank}.json").write_text(json.dumps([asdict(report), str(caught.value)]))
    dist.destroy_process_group()


def test_processes_count_together_and_end_together(tmp_path):
    # Forked, because starting anew takes longer than all that they do.
    mp.start_processes(_watch, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        report, message = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert (report["num_damaged"], report["wait_s"], report["slowest_process"]) == (1, 2.0, 1)
        assert "4 of the 4 clips" in message
        assert "first 'b' is damaged" in message
