"""Records the circumstances of a benchmark (versions, device, commit) and writes its result as JSON."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import uniavgen

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def circumstances(device: str) -> dict[str, Any]:
    """Returns the versions, the device, the load and the commit with which a result was measured."""
    import diffusers
    import transformers

    return {
        "versions": {
            "uniavgen": uniavgen.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
        "device": device,
        "load_average": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def device_name(device: torch.device) -> str:
    """Returns the hardware of a torch device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "meta":
        return "meta (operations are counted, not run)"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} of {os.cpu_count()} threads"


def commit() -> str:
    """Returns the commit of this checkout, marked where sources have changed since."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "benchmarks/*.py", "tests/models/plain.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def keep(name: str, result: Mapping[str, Any], out: str | None = None) -> Path:
    """Writes a result and prints it last; docs/render.py puts those of benchmarks/results into the documents."""
    path = Path(out) if out else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result, indent=1) + "\n")
    unfinished.replace(path)
    print(f"kept in {path}", file=sys.stderr)
    print(json.dumps(result))
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
