"""What does training the paper's model take? Predicted by `uniavgen plan --train`; nothing is trained.

python benchmarks/train_plan.py        # minutes; writes benchmarks/results/train-plan.json
"""

import torch

import tables
from record import circumstances, device_name, keep
from uniavgen.config import load
from uniavgen.training.config import TrainConfig
from uniavgen.workflows.plan_training import GIB, Machine, plan_training, planned_buckets

ONE_H200 = ("train.batch_size=2", "train.micro_batch_size=1", "train.ema=0", "optim.moments=8bit")
RUNS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("base/stage1", 8, 80, ()),
    ("base/stage2", 8, 80, ()),
    ("base/stage3", 8, 80, ()),
    ("ablations/figure7_jgo", 8, 80, ()),
    ("ablations/figure7_mto", 8, 80, ()),
    ("ablations/figure7_jfml", 8, 80, ()),
    ("base/stage2", 2, 141, ()),
    ("base/stage2", 1, 141, ONE_H200),
    ("base/lora", 1, 80, ()),
    ("base/lora-24gb", 1, 24, ()),
)
"""Preset, GPUs, GB of each and settings over the preset. All GPUs are taken to be as fast as an H100."""


def main() -> None:
    lines = []
    for preset, gpus, memory, settings in RUNS:
        config = load(TrainConfig, [preset], settings)
        machine = Machine(gpus=gpus, memory=memory * GIB)
        plan = plan_training(config, planned_buckets(config), machine)
        lines.append({"preset": preset, "settings": [*settings], **plan.as_data()})
        print(preset, plan.describe(), *plan.table(), sep="\n", flush=True)
    result = {
        "question": "What does training the paper's model take?",
        "settings": {"utilisation": Machine().utilisation, "peak_flops_per_s": Machine().flops},
        **circumstances(device_name(torch.device("meta"))),
        "lines": lines,
    }
    print(tables.train_plan(result))
    keep("train-plan", result)


if __name__ == "__main__":
    main()
