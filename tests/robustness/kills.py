"""Kills every long command at ten moments and runs it again: the result is that of a run that nobody has killed.

python tests/robustness/kills.py --seed 1
python tests/robustness/kills.py --only train,convert --moments 3
"""

import argparse
import random
import shutil
import signal
import tempfile
from pathlib import Path

from good_inputs import make_good_inputs
from long_commands import NAMES, LongCommand, make_long_commands


def kill_and_run_again(command: LongCommand, moment_s: float, work: Path) -> list[str]:
    """Kills a command after some seconds, runs it again and returns what is wrong."""
    work.mkdir(parents=True)
    killed = command.run(work, moment_s)
    again = command.run(work)
    wrong = command.differences(work)
    # A kill between the last rename and the end leaves a complete result, which `convert` does not overwrite.
    refused = command.name == "convert" and again.code == 2 and "exists already and is not overwritten" in again.output
    if again.code != 0 and not (refused and not wrong):
        wrong.insert(0, f"the second run ended with {again.code}: {again.output[-3000:]}")
    if killed.code not in (0, -signal.SIGKILL):
        wrong.insert(0, f"the first run ended with {killed.code}: {killed.output[-3000:]}")
    shutil.rmtree(work)
    return wrong


def command_line() -> None:
    """Kills the commands that the command line names and exits with 1 where a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--only", default=",".join(NAMES), help="commands, by commas")
    chosen = parser.parse_args()
    failed = total = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        folder = Path(temporary)
        for command in make_long_commands(make_good_inputs(folder / "good"), folder, chosen.only.split(",")):
            rng = random.Random(f"{chosen.seed}/{command.name}")
            for number in range(chosen.moments):
                moment = command.seconds * (number + rng.random()) / chosen.moments
                wrong = kill_and_run_again(command, moment, folder / "work")
                total, failed = total + 1, failed + bool(wrong)
                if wrong:
                    print(
                        f"{command.name} killed after {moment:.3f} of {command.seconds:.3f} s: {'; '.join(wrong[:6])}"
                    )
            print(f"{command.name}: {len(command.complete)} files", flush=True)
    print(f"{failed} of {total} failed (seed {chosen.seed})")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    command_line()
