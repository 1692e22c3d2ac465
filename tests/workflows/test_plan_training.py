"""What training takes is predicted from settings, and a bucket that is too large is refused."""

from dataclasses import replace

import pytest

from uniavgen.config import load
from uniavgen.errors import ConfigError
from uniavgen.training.config import TrainConfig
from uniavgen.workflows.plan_training import GIB, Machine, check_training_fits, plan_training, planned_buckets

TINY = [
    "model=tiny/model",
    "data.num_frames=9",
    "train.batch_size=4",
    "stage.tasks={ratios: {dubbing: 0, animation: 0}}",
]


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return load(TrainConfig, ["nano/stage2"], TINY)


def test_bucket_larger_than_memory_is_refused_with_ways_out(config):
    buckets = planned_buckets(config, [(64, 64), (256, 256)])
    check_training_fits(config, buckets, Machine(memory=80 * GIB))
    with pytest.raises(ConfigError, match=r"clips of 256x256 px, 9 frames need 0\.\d GB of each GPU, 4 at a time, and"):
        check_training_fits(config, buckets, Machine(memory=GIB // 10))


def test_memory_falls_with_processes_micro_batches_and_recomputation(config):
    def planned(gpus: int = 1, **train: int) -> tuple[int, float]:
        changed = replace(config, train=replace(config.train, **train))
        (bucket,) = plan_training(changed, planned_buckets(changed, [(256, 256)]), Machine(gpus=gpus)).buckets
        return bucket.memory.total, bucket.flops_per_clip

    memory, flops = planned()
    assert planned(micro_batch_size=1)[0] < memory / 2
    recomputed, more_flops = planned(activation_checkpointing=1)
    assert recomputed < memory
    assert flops < more_flops < 1.5 * flops


def test_shards_divide_what_is_held(config):
    whole, shared = (
        plan_training(
            replace(config, sharding=replace(config.sharding, shard_degree=degree)),
            planned_buckets(config, [(64, 64)]),
            Machine(gpus=4),
        ).buckets[0].memory
        for degree in (1, 4)
    )  # fmt: skip
    for kind in ("weights", "moments", "average"):
        assert getattr(shared, kind) == getattr(whole, kind) // 4
    assert whole.gathered > 0
