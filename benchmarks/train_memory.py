"""How well is the memory of a training step predicted? Against what torch's allocator hands out on a CPU.

The base model with a few blocks; one forward and backward pass of a clip of noise. Predicted are activations and
gradients (`training.step_count`); weights, moments and averages are sums of shapes and are not held here.

    python benchmarks/train_memory.py                  # the widths of base: minutes, 10 GB
    python benchmarks/train_memory.py --width 0.25 --name train-memory-small
"""

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import tables
from record import circumstances, device_name, keep
from uniavgen.batch import TextInputs
from uniavgen.config import load
from uniavgen.data.buckets import Bucket
from uniavgen.data.dataset import Batch
from uniavgen.models.kernels import AttentionKernel, use_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.config import TrainConfig
from uniavgen.training.randomness import SampleRandomness
from uniavgen.training.stage import precision_context
from uniavgen.training.step import step_losses
from uniavgen.training.step_count import StepCounter

HEADS, FFN = {"video": 24, "audio": 12}, {"video": 14336, "audio": 8960}


def main(words: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, help="relative to base")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--latent", default="16x16", metavar="ROWSxCOLUMNS")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument(
        "--recompute", type=int, action="append", metavar="N", help="every N-th block; 0 and 1 if left out"
    )
    parser.add_argument("--name", default="train-memory")
    parser.add_argument("--out")
    options = parser.parse_args(words)
    lines = [measured(options, every) for every in options.recompute or (0, 1)]
    result = {
        "question": "How well is the memory of a training step predicted?",
        "settings": {key: value for key, value in vars(options).items() if key not in ("name", "out", "recompute")},
        **circumstances(device_name(torch.device("cpu"))),
        "lines": lines,
    }
    print(tables.train_memory(result))
    keep(options.name, result, options.out)
    return lines


def measured(options: argparse.Namespace, every: int) -> dict[str, Any]:
    """Returns predicted and allocated bytes of one step."""
    config = load(TrainConfig, ["base/stage2"], [
        f"train.activation_checkpointing={every}", f"train.precision={options.precision}",
        f"model.num_layers={options.blocks}", f"data.num_frames={options.frames}",
        *(f"model.{branch}.num_heads={round(heads * options.width)}" for branch, heads in HEADS.items()),
        *(f"model.{branch}.ffn_width={round(width * options.width)}" for branch, width in FFN.items()),
    ])  # fmt: skip
    rows, columns = (int(side) for side in options.latent.split("x"))
    bucket = Bucket(timing=config.model.timebase.clip(options.frames), rows=rows, columns=columns)
    counter = StepCounter(config, "cpu")
    predicted = counter.count(bucket, 1, Task.JOINT)
    model = UniAVGenTransformer.from_settings(config.model).train()
    use_attention(model, AttentionKernel.MATH)
    model.checkpoint_activations(every)
    batch = filled(counter.batch(bucket, 1, Task.JOINT))

    def step() -> None:
        weights = config.stage.losses.at(0, config.train.steps)
        with precision_context(config.train.precision, "cpu"):
            randomness = SampleRandomness(seed=0, samples=[0])
            losses = step_losses(model, batch, randomness, config.stage, weights=weights).means()
        losses.total(config.stage.losses, 0, config.train.steps).backward()

    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    step()  # Tables of angles are made once and kept.
    model.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    allocated = peak_of(recorded)
    return {
        "recompute_every": every,
        "predicted": predicted.peak,
        "measured": allocated,
        "difference": round(predicted.peak / allocated - 1, 4),
    }


def peak_of(recorded: profile) -> int:
    """Returns the most bytes that torch's allocator had handed out at a time since the beginning."""
    kineto = recorded.profiler and recorded.profiler.kineto_results
    assert kineto is not None
    events = [event for event in kineto.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def filled(batch: Batch) -> Batch:
    """Gives a batch values: faces everywhere, and texts that fill their length."""
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            value.fill_(1.0)
        if isinstance(value, TextInputs):
            value.caption.fill_(0.0)
            value.speech.fill_(1)
            value.speech_length.fill_(value.speech.shape[1])
            if value.symbol_timestamps is not None:
                value.symbol_timestamps.fill_(0.0)
    return batch


if __name__ == "__main__":
    main()
