"""How many clips a second do several processes train, beside one?

The same stage, batch and threads a process; one process and several take turns in one run, so that both meet the same
machine. Random features of whole clips, real steps, as in `train.py`.

    OMP_NUM_THREADS=1 python benchmarks/processes.py --stage nano/stage3 --processes 2
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

import tables
from record import circumstances, device_name, keep
from train import build_run, write_features
from uniavgen.config import load
from uniavgen.distributed import ParallelContext, process_group
from uniavgen.training.config import TrainConfig
from uniavgen.training.loop import StepRecord


def main(words: Sequence[str] | None = None) -> None:
    options = parsed(words)
    lines = []
    for stage in options.stage:
        config = load(TrainConfig, [stage], options.set)
        with tempfile.TemporaryDirectory() as folder:
            write_features(Path(folder) / "features", config.model, options.latent)
            rates: dict[int, list[float]] = {1: [], options.processes: []}
            for _ in range(options.rounds):
                for count, found in rates.items():
                    found.append(clips_per_s(count, stage, Path(folder), options))
        one, several = (statistics.median(found) for found in rates.values())
        lines.append(
            {
                "stage": stage,
                "batch_size": config.train.batch_size,
                "precision": config.train.precision,
                "processes": options.processes,
                "clips_per_s_of_one": round(one, 4),
                "clips_per_s": round(several, 4),
                "factor": round(several / one, 3),
                "rounds": {str(count): [round(rate, 4) for rate in found] for count, found in rates.items()},
            }
        )
    result = {
        "question": "How many clips a second do several processes train, beside one?",
        "settings": {"latent": options.latent, "warm_up": options.warm_up, "steps": options.steps, "set": options.set},
        "threads_a_process": torch.get_num_threads(),
        **circumstances(device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))),
        "lines": lines,
    }
    print(tables.processes(result))
    keep(options.name, result, options.out)


def clips_per_s(count: int, stage: str, folder: Path, options: argparse.Namespace) -> float:
    """Returns the clips that all of `count` processes train a second, after the warm-up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    mp.spawn(train_share, args=(count, port, stage, folder, options), nprocs=count)
    found: dict[str, Any] = json.loads((folder / "rate.json").read_text())
    return found["clips"] / found["seconds"]


def train_share(rank: int, count: int, port: str, stage: str, folder: Path, options: argparse.Namespace) -> None:
    """Trains as one of `count` processes; the first one writes how long the measured steps took."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ends: list[float] = []
    with process_group() as shared_device:
        device = torch.device(shared_device or ("cuda" if torch.cuda.is_available() else "cpu"))
        config = load(TrainConfig, [stage], options.set)
        run = build_run(config, folder, device, ParallelContext.for_training())

        def note(_: StepRecord, __: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ends.append(time.perf_counter())

        last = options.warm_up + options.steps
        run.train((note,), stopped=lambda: len(ends) == last)
    if rank == 0:
        seconds = ends[-1] - ends[options.warm_up - 1]
        clips = config.train.batch_size * options.steps
        (folder / "rate.json").write_text(json.dumps({"clips": clips, "seconds": seconds}))


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stage", action="append", metavar="NAME", help="such as nano/stage2, repeatable")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", "-s", action="append", default=[], metavar="KEY=VALUE", help="over the presets")
    parser.add_argument("--latent", default="16x16", metavar="ROWSxCOLUMNS", help="latent cells of a picture")
    parser.add_argument("--rounds", type=int, default=3, help="turns of one process and of several")
    parser.add_argument("--warm-up", type=int, default=3, help="steps that do not count, at least one")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--name", default="processes", help="of the result in benchmarks/results")
    parser.add_argument("--out", help="another file for the result")
    options = parser.parse_args(words)
    options.stage = options.stage or ["nano/stage3"]
    options.set = ["train.compile=false", *options.set]
    return options


if __name__ == "__main__":
    main()
