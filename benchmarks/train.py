"""How many clips a second does a stage of training take in, and which share of the machine's matrix products is that?

Random features of whole clips; the real steps, with the stage's own tasks, batch and precision. Operations are counted
from an uncompiled step of each task (`training.step_count`), forward and backward, those of recomputed blocks twice;
reading data and the optimiser's update count as no work, the update's time does. The share is of the peak measured in
the same run. On a GPU the memory that torch's allocator handed out stands beside the predicted one.

    python benchmarks/train.py                                    # the four stages of nano on this machine
    python benchmarks/train.py --stage nano/stage3 --set train.batch_size=16 --name train-gpu
    python benchmarks/train.py --stage base/lora --latent 46x46 --warm-up 2 --steps 6       # a GPU of 80 GB
    python benchmarks/train.py --stage base/lora --set model.num_layers=2 --latent 4x4    # two blocks of it, a CPU
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import tables
from record import circumstances, device_name, keep
from timing import best_device
from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.config import load, preset_names
from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.shards import ShardWriter
from uniavgen.data.words import Word
from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.models.config import TransformerConfig
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.training.config import TrainConfig
from uniavgen.training.loop import StepRecord
from uniavgen.training.memory import TrainingModel
from uniavgen.training.randomness import default_generator
from uniavgen.training.stage import PRECISIONS, StageRun, build_stage_run, build_training_data
from uniavgen.training.throughput import matmul_peak

NUM_CLIPS = 8
WORDS = ("good", "morning", "to", "all", "of", "you")


def main(words: Sequence[str] | None = None) -> None:
    options = parsed(words)
    # Norms keep float32 weights under autocast; torch warns that this has no fused kernel.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
    device = torch.device(options.device or best_device())
    lines = []
    for stage in options.stage:
        config = load(TrainConfig, [stage], options.set)
        dtype = PRECISIONS[config.train.precision] or torch.float32
        peak = matmul_peak(device, dtype)
        with tempfile.TemporaryDirectory() as folder:
            write_features(Path(folder) / "features", config.model, options.latent)
            lines.append({"stage": stage, **measured(config, Path(folder), options, device, peak),
                          "matmul_peak_flops_per_s": peak})  # fmt: skip
    result = {
        "question": "How many clips a second does a stage of training take in, and which share of the peak is that?",
        "settings": {"latent": options.latent, "warm_up": options.warm_up, "steps": options.steps, "set": options.set},
        **circumstances(device_name(device)),
        "matmul_peak_flops_per_s": max(line["matmul_peak_flops_per_s"] for line in lines),
        "lines": lines,
    }
    print(tables.train(result))
    keep(options.name, result, options.out)


def measured(
    config: TrainConfig, folder: Path, options: argparse.Namespace, device: torch.device, peak: float
) -> dict[str, Any]:
    """Times of the steps after `warm_up`, against the work of the same steps."""
    last = options.warm_up + options.steps
    run = build_run(config, folder, device)
    tasks: list[str] = []
    times: list[float] = []

    def note(record: StepRecord, _: Any) -> None:
        began = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        tasks.append(record.task)
        times.append(record.seconds + time.perf_counter() - began)

    run.train((note,), stopped=lambda: len(times) == last)
    allocated = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    tasks, seconds = tasks[options.warm_up :], times[options.warm_up :]
    model = TrainingModel(config, 1, "cuda" if device.type == "cuda" else "cpu")
    bucket = run.objective.dataset.data.clips.largest
    clips = config.train.batch_size
    passes = -(-clips // model.micro_clips(clips))
    counts = {task: model.count(bucket, clips, Task(task)) for task in sorted({*tasks})}
    work = {task: count.flops * passes for task, count in counts.items()}
    flops = sum(work[task] for task in tasks)
    return {
        "frames": config.data.num_frames,
        "batch_size": clips,
        "precision": config.train.precision,
        "compile": config.train.compile,
        "parameters": run.state.model.num_parameters(),
        "median_s": round(statistics.median(seconds), 5),
        "clips_per_s": round(clips * len(seconds) / sum(seconds), 4),
        "flops_per_clip": flops // (clips * len(seconds)),
        "share_of_peak": round(flops / sum(seconds) / peak, 4),
        "allocated_bytes": allocated,
        "predicted_bytes": max(model.memory(count).total for count in counts.values()),
        "tasks": work,
    }


def build_run(
    config: TrainConfig, folder: Path, device: torch.device, context: ParallelContext = SINGLE_PROCESS
) -> StageRun:
    data = build_training_data(config, [str(folder / "features")], SpeechSymbols.of())
    # Weights of billions of parameters are drawn where that takes seconds.
    with default_generator(torch.Generator().manual_seed(config.train.seed)), device:
        model = UniAVGenTransformer.from_settings(config.model)
    return build_stage_run(config, model, data, folder / "run", device, context)


def write_features(folder: Path, sizes: TransformerConfig, latent: str) -> None:
    """Clips of noise, as long as the model's longest, that say a few words."""
    generator = torch.Generator().manual_seed(0)
    timing = sizes.timebase.clip(81)
    rows, columns = (int(side) for side in latent.split("x"))
    tokens = rows * columns // (sizes.video.patch[1] * sizes.video.patch[2])
    words = [Word(text=word, start_s=0.4 + 0.3 * i, end_s=0.7 + 0.3 * i) for i, word in enumerate(WORDS)]

    def features(key: str, speaker: str) -> Features:
        return Features(
            key=key,
            text=" ".join(WORDS),
            speaker=speaker,
            words=tuple(words),
            mel=torch.randn(timing.num_audio_tokens, sizes.audio.mel_bins, generator=generator),
            latents=torch.randn(
                sizes.video.latent_channels, timing.num_latent_frames, rows, columns, generator=generator
            ),
            face_mask=torch.rand(timing.num_latent_frames, tokens, generator=generator),
            mouth_opening=torch.rand(timing.num_frames, generator=generator),
            caption=torch.randn(12, sizes.video.caption_width, generator=generator),
        )

    with ShardWriter(folder) as writer:
        writer.write(EMPTY_CAPTION, features(EMPTY_CAPTION, "").to_parts())
        for number in range(NUM_CLIPS):
            writer.write(f"clip{number}", features(f"clip{number}", f"speaker{number % 2}").to_parts())


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="nano", help="whose stages")
    parser.add_argument("--stage", action="append", metavar="NAME", help="such as nano/stage2, repeatable; or all")
    parser.add_argument("--set", "-s", action="append", default=[], metavar="KEY=VALUE", help="over the presets")
    parser.add_argument("--latent", default="16x16", metavar="ROWSxCOLUMNS", help="latent cells of a picture")
    parser.add_argument("--warm-up", type=int, default=12, help="steps that do not count: blocks are compiled in them")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device")
    parser.add_argument("--name", default="train", help="of the result in benchmarks/results")
    parser.add_argument("--out", help="another file for the result")
    options = parser.parse_args(words)
    options.stage = options.stage or [name for name in preset_names() if name.startswith(f"{options.preset}/stage")]
    return options


if __name__ == "__main__":
    main()
