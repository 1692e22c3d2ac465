"""Runs all benchmarks that need a GPU: one card of 80 GB, about an hour (estimated, not measured).

Random full-size weights, so nothing is downloaded. Each part is a script of this folder in a process of its own, so
that one that fails (no memory, a kernel that is not installed) costs no other: it becomes a row with its reason.
`--small` runs the same scripts small on any machine, to see that they work.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --part step-compile --part step-flash
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from record import RESULTS, circumstances, device_name, keep
from tables import table
from timing import best_device
from uniavgen.models.kernels import AttentionKernel

_KERNELS = [kernel for kernel in AttentionKernel if kernel is not AttentionKernel.SDPA]
"""Kernels that are measured beside torch's own choice."""
_BIG = "--size 1280x736"
_WHOLE = "--latent 46x46 --warm-up 2 --steps 6 --set train.batch_size=1 --set data.workers=2"
"""The true 7.06 billion parameters at 736x736, clip by clip."""
FULL: dict[str, str] = {
    "memory": f"memory.py {_BIG} --frames 81",
    "memory-int8": f"memory.py {_BIG} --frames 81 --mode streamed-int8",
    "step": f"step.py {_BIG} --variant eager",
    "step-batch": f"step.py {_BIG} --variant batch",
    "step-compile": f"step.py {_BIG} --variant compile",
    "step-compile-batch": f"step.py {_BIG} --variant compile+batch",
    "step-whole": f"step.py {_BIG} --variant compile --guidance release --whole --repeats 2",
    "step-dubbing": f"step.py {_BIG} --task dubbing --variant eager --variant compile",
    "step-animation": f"step.py {_BIG} --task animation --variant eager --variant compile",
    **{f"step-{kernel}": f"step.py {_BIG} --attention {kernel} --variant eager" for kernel in _KERNELS},
    "step-fp8": f"step.py {_BIG} --weights fp8 --variant eager",
    "step-int8": f"step.py {_BIG} --weights int8 --variant eager",
    "scaling": "step.py --size 832x480 --size 736x736 --size 1120x736 --size 1280x736 --frames 41 --frames 81 "
    "--frames 121 --variant eager --repeats 2",
    "interaction": f"interaction.py {_BIG}",
    "vae_decode": "vae_decode.py --size 832x480 --size 1280x736 --tile 384",
    "train": "train.py --preset nano --set train.batch_size=32",
    # Weights, gradients and 8-bit moments of the whole model take 71 GB beside activations.
    "train-full": f"train.py --stage base/stage2 {_WHOLE} --set train.ema=0 --set optim.moments=8bit",
    "train-lora": f"train.py --stage base/lora {_WHOLE}",
    "train-lora-int8": f"train.py --stage base/lora-24gb {_WHOLE}",
}
"""Script and options of each part, by the name of its result."""
_CUT = (
    "--latent 4x4 --warm-up 0 --steps 2 --set train.batch_size=1 --set data.workers=0 --set model.num_layers=2 "
    "--set model.video.num_heads=2 --set model.video.ffn_width=512 --set model.audio.num_heads=1 "
    "--set model.audio.ffn_width=256"
)
_TINY = "--size 64x64 --frames 5 --repeats 1"
SMALL: dict[str, str] = {
    "memory": "memory.py --size 64x64 --frames 5 --task joint",
    "step": f"step.py {_TINY} --steps 2 --variant eager --variant batch",
    "step-whole": f"step.py {_TINY} --steps 2 --variant batch --whole",
    "step-dubbing": f"step.py {_TINY} --steps 2 --task dubbing --variant eager",
    **{f"step-{kernel}": f"step.py {_TINY} --steps 2 --attention {kernel} --variant eager" for kernel in _KERNELS},
    "step-fp8": f"step.py {_TINY} --steps 2 --weights fp8 --variant eager",
    "step-int8": f"step.py {_TINY} --steps 2 --weights int8 --variant eager",
    "scaling": f"step.py {_TINY} --size 96x64 --frames 9 --steps 2 --variant eager",
    "interaction": f"interaction.py {_TINY}",
    "vae_decode": f"vae_decode.py {_TINY} --tile 32",
    "train": "train.py --stage nano/stage4 --latent 4x4 --warm-up 0 --steps 2 --set train.compile=false "
    "--set train.precision=fp32",
    "train-full": f"train.py --stage base/stage2 {_CUT} --set train.ema=0 --set optim.moments=8bit",
    "train-lora": f"train.py --stage base/lora {_CUT}",
    "train-lora-int8": f"train.py --stage base/lora-24gb {_CUT}",
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--part", action="append", metavar="NAME", help="repeatable; all if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(words)
    if not options.small and not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU was found; --small runs the same code on this machine")
    name, preset, parts = ("small", "nano", SMALL) if options.small else ("gpu", "base", FULL)
    unknown = sorted({*(options.part or ())} - parts.keys())
    if unknown:
        raise SystemExit(f"there is no part {', '.join(unknown)}; use {', '.join(parts)}")
    result: dict[str, Any] = {
        "question": "Which measurements ran, and why not the others?",
        "settings": {"preset": preset},
        **circumstances(device_name(best_device())),
        "parts": [],
    }
    for part in options.part or parts:
        print(f"== {part}", flush=True)
        script, *more = parts[part].split()
        file = options.out / f"{part}-{name}.json"
        arguments = ["--preset", preset, *more, "--name", file.stem, "--out", str(file)]
        result["parts"].append({"part": part, **_run_part(script, arguments, file)})
        rows = [[line["part"], line["result"], line["seconds"], line["reason"]] for line in result["parts"]]
        print(table(["part", "result", "s", "reason"], rows))
        # Written after every part, so that a failing machine loses only the last one.
        keep(name, result, str(options.out / f"{name}.json"))


def _run_part(script: str, words: Sequence[str], file: Path) -> dict[str, Any]:
    """Runs a script and returns its result file, seconds, and the last line of stderr where it failed."""
    began = time.monotonic()
    command = [sys.executable, str(Path(__file__).with_name(script)), *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    seconds = round(time.monotonic() - began, 1)
    print(done.stderr, end="", file=sys.stderr, flush=True)
    if done.returncode == 0:
        return {"result": file.name, "seconds": seconds, "reason": ""}
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    return {"result": "none", "seconds": seconds, "reason": lines[-1][:500]}


if __name__ == "__main__":
    main()
