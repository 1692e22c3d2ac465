"""Commands that take long in earnest, what they leave, and what of it must be the same bytes after a second run."""

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from forked import Outcome, files_below, run_forked
from good_inputs import GoodInputs, main, sets

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
NAMES = (*LONGER, "prepare", "prepare-speech", "prompts", "export", "synth")


@dataclass(frozen=True)
class LongCommand:
    """A command in an empty folder and what it leaves there when nothing stops it."""

    name: str
    argv: list[str]
    complete: dict[str, str]
    """Content of the files by their names below the folder."""
    seconds: float

    def run(self, work: Path, kill_after_s: float | None = None) -> Outcome:
        """Runs the command in `work`; see `run_forked`."""
        return run_forked(lambda: main(self.argv), work, kill_after_s=kill_after_s)

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
        if name not in good.commands:
            print(f"{name}: cannot run here", file=sys.stderr)
            continue
        argv = [*good.argv(good.commands[name]), *LONGER.get(name, [])]
        work = folder / f"complete-{name}"
        work.mkdir(parents=True)
        outcome = run_forked(lambda argv=argv: main(argv), work)
        if outcome.code != 0:
            raise SystemExit(f"{name} ended with {outcome.code}: {outcome.output[-2000:]}")
        commands.append(LongCommand(name, argv, result_of(work), outcome.seconds))
        shutil.rmtree(work)
    return commands


def result_of(work: Path) -> dict[str, str]:
    """Returns name to content of the files that a command has left, apart from curves, which hold times and names."""
    found = {}
    for name, content in files_below(work).items():
        path = Path(name)
        if content == "folder" or "curves" in path.parts:
            continue
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
