"""How long does a sampling step take, how much memory, and which share of the machine's matrix products is that?

Random weights; the real sampling path. Every kind of step of the guidance is measured, and the clip is their sum: a
time for 50 steps is extrapolated unless --whole runs them. The share is of the peak measured in the same run. Several
sizes or lengths show how cost grows.

    python benchmarks/step.py                                              # nano on this machine
    python benchmarks/step.py --preset base --size 1280x736 --variant compile --whole --name step-gpu
"""

import argparse
import time
from collections.abc import Sequence
from itertools import groupby, product
from typing import Any

import torch

import tables
from clips import Size, clip_velocity, noise, transformer
from flops import META, count_clip
from record import circumstances, device_name, keep
from timing import best_device, best_dtype, forget_peak, peak_bytes, timed
from uniavgen.batch import AVPair
from uniavgen.flow.guidance import WeightedPass
from uniavgen.flow.sampling import guided_velocity, sample
from uniavgen.flow.schedule import sigmas
from uniavgen.flow.solver import make_solver
from uniavgen.inference.offload import WeightStorage, quantize
from uniavgen.inference.sampling_config import SamplingConfig
from uniavgen.inference.speed import SpeedConfig
from uniavgen.models.kernels import check_attention, compile_blocks, parse_attention, use_attention
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.table import Task
from uniavgen.timebase import ClipTiming, Timebase
from uniavgen.training.throughput import matmul_peak

VARIANTS = ("eager", "batch", "compile", "compile+batch")
"""As it is; both passes of a step in one batch; compiled blocks; both."""


def main(words: Sequence[str] | None = None) -> None:
    options = parsed(words)
    device = torch.device(options.device or best_device())
    dtype = best_dtype(device)
    check_attention(SpeedConfig(attention=parse_attention(options.attention)).attention, device.type)
    model = transformer(options.preset, device, dtype)
    quantize(model, options.weights)
    use_attention(model, parse_attention(options.attention))
    on_paper = transformer(options.preset, META, dtype)
    config = SamplingConfig(steps=options.steps, guidance=options.guidance)
    peak = matmul_peak(device, dtype)
    lines = []
    # Compilation is for good, so compiled variants come last.
    for variant in sorted(options.variant, key=VARIANTS.index):
        if "compile" in variant and not any("compile" in line["variant"] for line in lines):
            compile_blocks(model)
        for text, frames in product(options.size, options.frames):
            size, timing = Size.of(text), Timebase().clip(frames)
            counted = count_clip(on_paper, options.task, size, timing, config)
            flops = {run: again for run, (*_, again) in counted.costs.items()}
            lines.append({"variant": variant, "size": text, "frames": frames,
                          **measured(model, options, variant, size, timing, config, flops, peak)})  # fmt: skip
            lines[-1]["clip_flops"] = counted.total
    result = {
        "question": "How long is a step, how much memory does it take, and what share of the matmul peak is it?",
        "settings": settings(options, dtype),
        **circumstances(device_name(device)),
        "matmul_peak_flops_per_s": peak,
        "lines": lines,
    }
    print(tables.step(result))
    keep(options.name, result, options.out)


def measured(
    model: UniAVGenTransformer,
    options: argparse.Namespace,
    variant: str,
    size: Size,
    timing: ClipTiming,
    config: SamplingConfig,
    flops: dict[Any, int],
    peak: float,
) -> dict[str, Any]:
    """Measures one variant at one size: every kind of step, and the clip."""
    device, plan = model.device, config.plan(options.task)
    velocity = clip_velocity(model, options.task, size, timing, batch_passes="batch" in variant)
    state, sigma = noise(model, size, timing), AVPair.of(torch.full((1,), 0.5, device=device))
    kinds = [
        (terms, len(list(steps)))
        for terms, steps in groupby(plan.weighted_passes(i, config.steps) for i in range(config.steps))
    ]
    forget_peak(device)
    steps, clip_s, clip_flops, first = [], 0.0, 0, 0
    with torch.no_grad():
        for terms, count in kinds:

            def one(step: int = first) -> None:
                guided_velocity(velocity, state, sigma, plan, step, config.steps)

            spent, work = timed(one, device, options.repeats, warm_up=2), sum(flops[term.pass_] for term in terms)
            steps.append({"passes": [named(term) for term in terms], "steps": count, "flops": work, **spent.rounded(),
                          "share_of_peak": round(work / spent.median_s / peak, 4)})  # fmt: skip
            clip_s, clip_flops, first = clip_s + count * spent.median_s, clip_flops + count * work, first + count
        if options.whole:
            times = sigmas(config.steps, config.schedule)
            began = time.perf_counter()
            done = sample(velocity, state, times, plan, make_solver(config.solver, times))
            done.video.sum().item()  # Waits for a GPU.
            clip_s = time.perf_counter() - began
    return {
        "steps": steps,
        "clip_s": float(f"{clip_s:.5g}"),
        "clip_is": "run whole" if options.whole else "extrapolated from its steps",
        "share_of_peak": round(clip_flops / clip_s / peak, 4),
        "peak_bytes": peak_bytes(device),
    }


def settings(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, Any]:
    chosen = {name: value for name, value in vars(options).items() if name not in ("device", "name", "out")}
    return {**chosen, "task": options.task.value, "dtype": str(dtype).removeprefix("torch.")}


def named(term: WeightedPass) -> str:
    run = term.pass_
    open_ways = [way for way in ("a2v", "v2a") if getattr(run.gate, way)]
    return f"{'text' if run.text else 'no text'}, {' and '.join(open_ways) or 'alone'}"


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="nano", choices=("nano", "base"))
    parser.add_argument("--task", type=Task, default=Task.JOINT, choices=list(Task))
    parser.add_argument("--size", action="append", metavar="WxH", help="repeatable; 128x128 if left out")
    parser.add_argument("--frames", action="append", type=int, help="1 + 4n, repeatable; 81 if left out")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="repeatable; eager and batch if left out")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--weights", type=WeightStorage, default=WeightStorage.AS_LOADED, choices=list(WeightStorage))
    parser.add_argument("--guidance", default="ma_cfg_interval", help="passes of 'release' cannot share a batch")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="run all steps of each clip")
    parser.add_argument("--device")
    parser.add_argument("--name", default="step", help="of the result in benchmarks/results")
    parser.add_argument("--out", help="another file for the result")
    options = parser.parse_args(words)
    options.size = options.size or ["128x128"]
    options.frames = options.frames or [81]
    options.variant = options.variant or ["eager", "batch"]
    return options


if __name__ == "__main__":
    main()
