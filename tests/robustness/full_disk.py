"""Gives every long command ten disks that are too small: one sentence, nothing half-written; then room: the result.

    python tests/robustness/full_disk.py
    python tests/robustness/full_disk.py --only train --sizes 3

Needs user and mount namespaces (`unshare -rm`), in which a disk is a tmpfs of a size.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forked import sentences
from good_inputs import make_good_inputs
from long_commands import NAMES, LongCommand, make_long_commands, temporary_files

PAGE_BYTES = 4096
RESUMED = ("convert",)
"""Commands that go on from what is complete in a hidden folder."""


@contextmanager
def disk(place: Path, size: int) -> Iterator[None]:
    """Mounts an empty disk of `size` bytes at `place` inside the block."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_and_run_again(command: LongCommand, size: int, place: Path) -> list[str]:
    """Runs a command on a disk with `size` free bytes, then with more room, and returns what is wrong."""
    wrong = []
    with disk(place, 2**30):
        command.set_up(place)
        size += shutil.disk_usage(place).used
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
        outcome = command.run(place)
        is_in_part = outcome.code == 0 and "no space left on device; free some space" in outcome.output
        if outcome.code == 0 and not is_in_part:
            # It fits: what an undisturbed run leaves may be smaller than the blocks of its files, or rounded.
            return command.differences(place)
        printed = sentences(outcome.output)
        if is_in_part:
            pass  # What did not fit is a reason of its source, and computed by the next run.
        elif outcome.code != 2 or len(printed) != 1 or "Traceback" in outcome.output:
            wrong.append(f"exit code {outcome.code}, {len(printed)} sentences: {outcome.output[-600:]}")
        elif not any(words in printed[0] for words in ("space", "could not be written", "cannot be written")):
            wrong.append(f"another sentence: {printed[0]}")
        if command.name not in RESUMED and (left := temporary_files(place)):
            wrong.append(f"left: {', '.join(left[:3])}")
        subprocess.run(["mount", "-o", "remount,size=1G", str(place)], check=True)
        again = command.run(place)
        if again.code != 0:
            wrong.append(f"with room it ended with {again.code}: {again.output[-600:]}")
        wrong += command.differences(place)
    return wrong


def command_line() -> None:
    """Fills disks under the commands that the command line names and exits with 1 where one ends badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=10)
    parser.add_argument("--only", default=",".join(NAMES), help="commands, by commas")
    chosen = parser.parse_args()
    if "INSIDE_NAMESPACE" not in os.environ:
        inside = {**os.environ, "INSIDE_NAMESPACE": "1"}
        raise SystemExit(
            subprocess.run(["unshare", "-rm", sys.executable, *sys.argv], env=inside, check=False).returncode
        )
    failed = total = 0
    with tempfile.TemporaryDirectory(prefix="disk-") as temporary:
        folder = Path(temporary)
        good = make_good_inputs(folder / "good")
        for command in make_long_commands(good, folder, chosen.only.split(",")):
            pages = _num_pages(command, folder / "measured")
            for number in range(chosen.sizes):
                size = PAGE_BYTES * (1 + pages * number // chosen.sizes)
                wrong = fill_and_run_again(command, size, folder / "disk")
                total, failed = total + 1, failed + bool(wrong)
                if wrong:
                    print(f"{command.name} on {size} bytes: {'; '.join(wrong[:6])}")
            print(f"{command.name}: {len(command.complete)} files", flush=True)
    print(f"{failed} of {total} failed")
    raise SystemExit(failed > 0)


def _num_pages(command: LongCommand, place: Path) -> int:
    with disk(place, 2**30):
        command.set_up(place)
        before = shutil.disk_usage(place).used
        command.run(place)
        return (shutil.disk_usage(place).used - before) // PAGE_BYTES


if __name__ == "__main__":
    command_line()
