"""Trains in processes that are killed, stopped or short of disk at chosen moments, and then goes on.

    python tests/training/interruptions.py FEATURES VOCABULARY OUT

leaves a run OUT/NAME for each of them, and what happened in OUT/outcomes.json.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "robustness"))

from forked import Outcome, run_forked

from uniavgen.apps.cli import main
from uniavgen.training import checkpoint_files, checkpointer
from uniavgen.workflows import train  # noqa: F401

STEPS = 4
SETTINGS = (
    "model=tiny/model",
    f"train.steps={STEPS}",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.compile=false",
    "train.checkpoint_every=1",
    "data.num_frames=9",
    "optim.warmup_steps=1",
    "stage.tasks.reference_s=[0.2,0.4]",
    "stage.losses={face_mask: {start: 0.1, end: 0.0}}",
)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_twice() -> None:
    terminate()
    terminate()


def fill_disk() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))


def before_call(owner: object, name: str, number: int, act: Callable[[], None]) -> None:
    """Calls `act` before the call of this number (from 1) of a function."""
    function, count = getattr(owner, name), 0

    def counted(*arguments: object, **named: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            act()
        return function(*arguments, **named)

    setattr(owner, name, counted)


# Every checkpoint is one file, whose checksum is taken, and one renamed folder; so are the weights in the end a renamed
# folder.
MOMENTS = {
    **{f"killed-renaming-{n}": lambda n=n: before_call(Path, "rename", n, kill) for n in (2, STEPS + 1)},
    "killed-copying": lambda: before_call(checkpointer.dcp, "async_save", 2, kill),
    **{f"killed-saving-{n}": lambda n=n: before_call(checkpointer, "checksum", n, kill) for n in (2, 3)},
    "killed-deleting": lambda: before_call(checkpoint_files.shutil, "rmtree", 2, kill),
    "stopped-saving": lambda: before_call(checkpointer, "checksum", 2, terminate),
    "stopped-twice-saving": lambda: before_call(checkpointer, "checksum", 2, terminate_twice),
    "stopped-renaming": lambda: before_call(Path, "rename", 2, terminate_twice),
    "full-disk": lambda: before_call(checkpointer.dcp, "async_save", 2, fill_disk),
}
"""Name to what the process does before it trains."""


def train_run(
    features: Path, vocabulary: Path, out: Path, prepare: Callable[[], None] = lambda: None, *more: str
) -> Outcome:
    def command() -> int:
        prepare()
        words = ["train", "-c", "nano/stage3", *(word for setting in SETTINGS for word in ("-s", setting))]
        words += ["--data", str(features), "--vocab", str(vocabulary), "--device", "cpu", "--out", str(out), *more]
        # Without arguments `main` is the shell command, with its signals.
        sys.argv = ["uniavgen", *words]
        return main()

    return run_forked(command, out.parent)


def command_line() -> None:
    features, vocabulary, out = (Path(word).resolve() for word in sys.argv[1:])
    whole = train_run(features, vocabulary, out / "whole")
    assert whole.code == 0, whole.output
    outcomes = {}
    for name, prepare in MOMENTS.items():
        first = train_run(features, vocabulary, out / name, prepare)
        files = sorted(str(path.relative_to(out / name)) for path in (out / name).rglob("*") if path.is_file())
        again = train_run(features, vocabulary, out / name, lambda: None, "--resume")
        outcomes[name] = {"code": first.code, "output": first.output, "files": files}
        outcomes[name] |= {"code_again": again.code, "output_again": again.output}
    (out / "outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    command_line()
