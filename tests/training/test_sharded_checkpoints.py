"""Checkpoints of two processes: two resume them bit for bit, one to rounding; damage and full disks are told by all."""

import resource
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.forks import in_two_processes
from tiny_run import config, run, write_features

from uniavgen.checkpoint.weight_shards import write_weight_shards
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext, any_process
from uniavgen.errors import CheckpointError, OutputError
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.training.checkpoint_files import checkpoints
from uniavgen.training.finished_weights import save_weights
from uniavgen.training.initial_weights import load_initial_weights
from uniavgen.training.sharding import full_tensor
from uniavgen.training.state import restore
from uniavgen.workflows.export import find_transformer

pytestmark = pytest.mark.slow

SETTINGS = config("sharding.shard_degree=2", "train.checkpoint_every=100")
STEPS, MIDDLE = 6, 3


def tensors(state) -> dict[str, torch.Tensor]:
    """Whole weights, averages and moments; all processes call it."""
    return {name: full_tensor(value).clone() for name, value in state.tensors().items()}


def train_until(one, step):
    """Losses of every step, and the numbers of its samples in this process."""
    records = []

    def note(record, _state):
        records.append((record.step, record.values["total"], [*one.objective.dataset.samples(record.step - 1)]))

    one.train([note], lambda: any_process(one.state.step >= step))
    return records


def resumed(folder, out, checkpoint, context=SINGLE_PROCESS):
    """A run with other first weights, set to a checkpoint."""
    one = run(folder, out, SETTINGS, seed=1, context=context)
    callback = one.checkpoint_callback
    restore(one.state, checkpoint, STEPS, callback.samples, group=callback.group)
    return one


def refusal(act) -> str:
    try:
        act()
    except CheckpointError as error:
        return str(error)
    return ""


def as_one_of_two(context: ParallelContext, folder: str, place: Path) -> dict[str, object]:
    rank, results = context.rank, {}
    whole = run(folder, place / "two", SETTINGS, context=context)
    before = train_until(whole, MIDDLE)
    with whole.checkpoint_callback as callback:
        callback.start(whole.state)
        results["middle"] = tensors(whole.state)
        results["losses"] = before + train_until(whole, STEPS)
    results["end"] = tensors(whole.state)
    save_weights(whole.state, place / "finished", context, shard_bytes=200_000)
    results["no room"] = without_room(lambda: save_weights(whole.state, place / "unfinished", context))
    middle = checkpoints(place / "two" / "checkpoints")[-1]

    again = resumed(folder, place / "again", middle, context)
    results["resumed at"] = tensors(again.state)
    results["resumed losses"] = train_until(again, STEPS)
    results["resumed end"] = tensors(again.state)

    from_one = resumed(folder, place / "from one", place / "one" / "checkpoints" / middle.name, context)
    results["losses from one"] = train_until(from_one, STEPS)

    damaged = place / "damaged" / middle.name
    if rank == 0:
        shutil.copytree(middle, damaged)
        flip_bit(damaged / "shard-00002-model-00001-of-00001.safetensors")
    dist.barrier()
    results["refusal"] = refusal(lambda: resumed(folder, place / "no", damaged, context))
    results["full disk"] = full_disk(again, rank)

    # One process is told to stop, both do, after the same step.
    stopped = run(folder, place / "stopped", SETTINGS, context=context)
    stopped.train([], lambda: any_process(rank == 1 and stopped.state.step == 2))
    results["stopped"] = stopped.state.step
    return results


def without_room(act) -> str:
    """What it says where the first process writes at most a small file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        act()
    except OutputError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return ""


def flip_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)


def full_disk(one, rank: int) -> list[list[str]]:
    """What is left after a checkpoint for which the second process has no room, and after the next one."""
    callback, found = one.checkpoint_callback, []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (20_000, limits[1]):
        if rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        callback.start(one.state)
        callback.finish_quietly()
        dist.barrier()
        found.append(sorted(path.name for path in callback.folder.iterdir()))
    return found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Folder of data, base folder, a run of one process, and what each of two processes saw."""
    base = tmp_path_factory.mktemp("processes")
    folder = write_features(base / "data")
    alone = run(folder, base / "one", SETTINGS)
    losses = train_until(alone, MIDDLE)
    alone.checkpoint_callback.save(alone.state)
    losses += train_until(alone, STEPS)
    return folder, base, losses, in_two_processes(as_one_of_two, folder, base)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_close(losses, expected):
    assert [step for step, _, _ in losses] == [step for step, _, _ in expected]
    for (_, loss, _), (_, other, _) in zip(losses, expected, strict=True):
        assert loss == pytest.approx(other, abs=1e-6)


def test_two_processes_resume_a_checkpoint_of_two_bit_for_bit(two_processes):
    _, _, _, (result, _) = two_processes
    assert same(result["middle"], result["resumed at"])
    assert same(result["end"], result["resumed end"])
    assert result["resumed losses"] == result["losses"][MIDDLE:]


def test_one_process_resumes_a_checkpoint_of_two(two_processes, tmp_path):
    folder, base, alone, (result, _) = two_processes
    one = resumed(folder, tmp_path, checkpoints(base / "two" / "checkpoints")[-1])
    assert same(one.state.tensors(), result["middle"])
    assert_close(train_until(one, STEPS), alone[MIDDLE:])
    for name, value in one.state.tensors().items():
        torch.testing.assert_close(value, result["end"][name], rtol=0, atol=1e-6)


def test_two_processes_resume_a_checkpoint_of_one(two_processes):
    _, _, alone, results = two_processes
    assert_close(results[0]["losses from one"], alone[MIDDLE:])
    for step in range(STEPS - MIDDLE):
        samples = [number for result in results for number in result["losses from one"][step][2]]
        assert samples == alone[MIDDLE + step][2]


def test_flipped_bit_is_refused_by_both_processes_with_its_file(two_processes):
    sentences = {result["refusal"] for result in two_processes[3]}
    (sentence,) = sentences
    assert "shard-00002-model-00001-of-00001.safetensors is damaged" in sentence


def test_full_disk_of_one_process_leaves_nothing_and_the_next_checkpoint_is_complete(two_processes):
    assert [result["full disk"] for result in two_processes[3]] == [[[], ["step-00000006"]]] * 2


def test_processes_stop_after_the_same_step(two_processes):
    assert [result["stopped"] for result in two_processes[3]] == [2, 2]


def test_exported_weights_of_two_processes_are_the_averages_in_shards_that_load(two_processes, tmp_path):
    _, base, _, (result, _) = two_processes
    source = find_transformer(base / "two")
    source.write(source.meta_model(), tmp_path, shard_bytes=200_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    loaded = UniAVGenTransformer.from_pretrained(tmp_path)
    weights = dict(loaded.named_parameters())
    assert all(torch.equal(value, result["middle"][f"ema/{name}"]) for name, value in weights.items())
    begun = UniAVGenTransformer.from_settings(loaded.settings)
    load_initial_weights(begun, base / "two")
    assert all(torch.equal(value, weights[name]) for name, value in begun.named_parameters())


def test_finished_weights_of_two_processes_are_their_averages_in_files(two_processes):
    _, base, _, (result, _) = two_processes
    assert len(list((base / "finished").glob("*.safetensors"))) > 2
    weights = dict(UniAVGenTransformer.from_pretrained(base / "finished").named_parameters())
    assert all(torch.equal(value, result["end"][f"ema/{name}"]) for name, value in weights.items())


def test_full_disk_at_the_end_is_told_by_the_process_that_writes_and_the_other_ends(two_processes):
    _, base, _, (first, second) = two_processes
    assert "unfinished could not be written: file too large" in first["no room"]
    assert second["no room"] == ""
    assert not (base / "unfinished").exists()


def test_written_shards_hold_no_more_than_one_file_in_memory(tmp_path):
    sizes = {f"w{i}": ((10, 10), torch.float16) for i in range(7)}
    group_sizes = []

    def read(names):
        group_sizes.append(len(names))
        return {name: torch.ones(10, 10) for name in names}

    write_weight_shards(tmp_path, "model", sizes, read, shard_bytes=500)
    assert group_sizes == [2, 2, 2, 1]
    with pytest.raises(CheckpointError, match=r"w0 as torch.float16 .* no numbers"):
        write_weight_shards(tmp_path, "model", {"w0": sizes["w0"]}, lambda _: {"w0": torch.full((10, 10), 1e6)})
