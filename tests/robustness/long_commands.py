"""Commands that take long in earnest, what they leave, and what of it must be the same bytes after a second run."""

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from forked import Outcome, files_below, run_forked
from good_inputs import GoodInputs, in_two_processes, main, sets

TEMPORARY = (".partial", ".lock", ".replaced", ".tmp")
LONGER = {
    "generate": ["--num-frames", "33", "--steps", "8"],
    "train": [*sets(["train.steps=6"]), "--resume"],
    "codec-vocoder": sets(["loop.steps=8"]),
    "codec-video-vae": sets(["loop.steps=8"]),
    "codec-caption": sets(["loop.steps=8"]),
    "evaluate": ["--steps", "2"],
    "convert": ["--shard-mb", "1"],
}
"""More words of the good commands that write or compute for a while."""
LIMIT_S = 600.0
"""Of one command, which takes seconds on an idle machine."""
TWO = "train-in-two"
"""Training in two processes."""
NAMES = (
    *(*LONGER, "prepare", "prepare-speech", "prompts", "export", "synth", "data-run", "data-pack", "fuse"),
    *("export-two", "train-lora", TWO),
)


@dataclass(frozen=True)
class LongCommand:
    """A command in an empty folder and what it leaves there when nothing stops it."""

    name: str
    argv: list[str]
    complete: dict[str, str]
    """Content of the files by their names below the folder."""
    seconds: float
    set_up: Callable[[Path], None] = lambda _: None
    """Copies what the command goes on with into an empty folder."""

    def run(self, work: Path, kill_after_s: float | None = None) -> Outcome:
        """Runs the command in `work`; see `run_forked`."""
        self.set_up(work)
        return run_forked(lambda: run_main(self), work, limit_s=LIMIT_S, kill_after_s=kill_after_s)

    def differences(self, work: Path) -> list[str]:
        """Returns what differs in `work` from an undisturbed run."""
        found = result_of(work)
        wrong = [f"missing: {name}" for name in sorted({*self.complete} - {*found})]
        wrong += [f"left: {name}" for name in sorted({*found} - {*self.complete})]
        return wrong + [
            f"differs: {name}" for name in sorted(found) if found[name] != self.complete.get(name, found[name])
        ]


def make_long_commands(good: GoodInputs, folder: Path, chosen: list[str]) -> list[LongCommand]:
    """Returns the commands of these names that can run here, each with an undisturbed run."""
    commands = []
    for name in chosen:
        base = "train" if name == TWO else name
        if base not in good.commands:
            print(f"{name}: cannot run here", file=sys.stderr)
            continue
        argv = [*good.argv(good.commands[base]), *LONGER.get(base, [])]
        command = LongCommand(name, argv, {}, 0.0, partial(good.set_up, good.commands[base]))
        work = folder / f"complete-{name}"
        work.mkdir(parents=True)
        outcome = command.run(work)
        if outcome.code != 0:
            raise SystemExit(f"{name} ended with {outcome.code}: {outcome.output[-2000:]}")
        commands.append(replace(command, complete=result_of(work), seconds=outcome.seconds))
        shutil.rmtree(work)
    return commands


def run_main(command: LongCommand) -> int:
    """Runs a command in this process, or in as many as it needs."""
    return in_two_processes(command.argv) if command.name == TWO else main(command.argv)


def result_of(work: Path) -> dict[str, str]:
    """Returns name to content of the files that a command has left, apart from curves, which hold times and names."""
    found = {}
    for name, content in files_below(work).items():
        path = Path(name)
        if content == "folder" or "curves" in path.parts:
            continue
        if path.name == "work.json":
            # It holds paths of this folder.
            content = path.read_text().replace(str(work), "")
        found[str(path.relative_to(work))] = _pickled(path) if path.suffix == ".pt" else content
    return found


def temporary_files(work: Path) -> list[str]:
    """Returns names of files that are no results."""
    return [name for name in files_below(work) if name.endswith(TEMPORARY)]


def _pickled(path: Path) -> str:
    """Returns a checksum of what a file of `torch.save` holds: the order in which pickle meets objects may differ."""
    import hashlib

    import torch

    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            stored = io.BytesIO()
            torch.save(value.clone(), stored)
            digest.update(stored.getvalue())
        elif isinstance(value, dict):
            for key, item in value.items():
                digest.update(repr(key).encode())
                add(item)
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(torch.load(path, weights_only=True))
    return digest.hexdigest()
