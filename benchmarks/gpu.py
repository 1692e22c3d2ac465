"""Everything that waits for a GPU, in one call: one card of 80 GB, about half an hour (estimated, not measured).

Random full-size weights, so nothing is downloaded. `--small` runs the same scripts small on any machine, to see that
they work.

    python benchmarks/gpu.py
"""

import argparse
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import interaction
import memory
import step
import vae_decode
from record import RESULTS

Run = tuple[str, Callable[[Sequence[str]], None], str]
"""Name of the result, script, options."""

FULL: tuple[Run, ...] = (
    ("memory", memory.main, "--size 1280x736 --frames 81"),
    ("step", step.main, "--size 1280x736 --variant eager --variant batch --variant compile --variant compile+batch"),
    ("step-whole", step.main, "--size 1280x736 --variant compile --guidance release --whole --repeats 2"),
    ("step-dubbing", step.main, "--size 1280x736 --task dubbing --variant eager --variant compile"),
    ("step-animation", step.main, "--size 1280x736 --task animation --variant eager --variant compile"),
    (
        "scaling",
        step.main,
        "--size 832x480 --size 736x736 --size 1120x736 --size 1280x736 --frames 41 --frames 81 --frames 121 "
        "--variant eager --repeats 2",
    ),
    ("interaction", interaction.main, "--size 1280x736"),
    ("vae_decode", vae_decode.main, "--size 832x480 --size 1280x736 --tile 384"),
)
_TINY = "--size 64x64 --frames 5 --repeats 1"
SMALL: tuple[Run, ...] = (
    ("memory", memory.main, "--size 64x64 --frames 5 --task joint"),
    ("step", step.main, f"{_TINY} --steps 2 --variant eager --variant batch"),
    ("step-whole", step.main, f"{_TINY} --steps 2 --variant batch --whole"),
    ("step-dubbing", step.main, f"{_TINY} --steps 2 --task dubbing --variant eager"),
    ("scaling", step.main, f"{_TINY} --size 96x64 --frames 9 --steps 2 --variant eager"),
    ("interaction", interaction.main, _TINY),
    ("vae_decode", vae_decode.main, f"{_TINY} --tile 32"),
)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args(words)
    if not options.small and not torch.cuda.is_available():
        raise SystemExit("no CUDA GPU was found; --small runs the same code on this machine")
    name, preset = ("small", "nano") if options.small else ("gpu", "base")
    for run, script, more in SMALL if options.small else FULL:
        print(f"== {run}")
        kept = ["--name", f"{run}-{name}", "--out", str(options.out / f"{run}-{name}.json")]
        script(["--preset", preset, *more.split(), *kept])
        torch.compiler.reset()
        gc.collect()


if __name__ == "__main__":
    main()
