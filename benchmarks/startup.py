"""Seconds from the start of `uniavgen generate` with nano to its first sampling step, of several checkouts in turn.

    python benchmarks/startup.py                        # this checkout
    python benchmarks/startup.py ../before . --runs 5   # two checkouts, alternately

A run ends where the first step begins: the first call of the transformer's `forward`. It measures and asserts nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
CHILD = """
import importlib.abc, importlib.util, os, sys, time

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "uniavgen.models.transformer":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def run_and_watch(module):
            run(module)
            module.UniAVGenTransformer.forward = stop

        spec.loader.exec_module = run_and_watch
        return spec

def stop(*_, **__):
    print(f"STARTED {time.time()}", flush=True)
    os._exit(0)

sys.meta_path.insert(0, Watch())
from uniavgen.apps.cli import main
sys.exit(main())
"""


def seconds_to_first_step(checkout: Path, out: Path) -> float:
    """Returns the seconds of one run, in a process of its own."""
    command = [sys.executable, "-c", CHILD, "generate", "--device", "cpu", "--out", str(out / "clip.mp4")]
    command += ["--image", str(HERE / "examples" / "person.png")]
    command += ["--caption", "An old woman speaks.", "--speech", "There is no coffee left in the hotel."]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1"}
    started = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "STARTED" not in done.stdout:
        raise SystemExit(f"{checkout}: {done.stderr}")
    return float(done.stdout.rpartition("STARTED")[2]) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {str(checkout): [] for checkout in arguments.checkouts}
    with tempfile.TemporaryDirectory() as out:
        for _ in range(arguments.runs):
            for checkout in arguments.checkouts:
                seconds[str(checkout)].append(seconds_to_first_step(checkout.resolve(), Path(out)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(json.dumps({"median_s": medians, "runs_s": seconds}, indent=2))


if __name__ == "__main__":
    main()
