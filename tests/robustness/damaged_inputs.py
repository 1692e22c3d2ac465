"""Gives every command damaged inputs and checks how it ends. A thousand cases take minutes:

    python tests/robustness/damaged_inputs.py --count 1000 --seed 1
    python tests/robustness/damaged_inputs.py --seed 1 --case 17 --keep case17
    python tests/robustness/damaged_inputs.py --only media,shards

A case passes where the command succeeds or ends with exit code 2 and one sentence, without a traceback and in time;
where it refuses, nothing new is left, and the inputs are as before. Case n of a seed is always the same.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from cases import FAMILIES, Case, Maker
from forked import Outcome, files_below, run_forked, sentences
from good_inputs import GoodInputs, check_commands, main, make_good_inputs

MEMORY_BYTES = 3 * 2**30
"""That a command on inputs of a few kilobytes may take."""
MAX_SENTENCE = 3000
TEMPORARY = (".partial", ".lock", ".replaced", ".tmp")


def check(outcome: Outcome, case: Case, before: dict[str, str], after: dict[str, str], given: Path) -> list[str]:
    """Returns what is wrong with how a command ended."""
    wrong = []
    if outcome.code is None:
        return [f"it hung: {outcome.seconds:.0f} s"]
    if outcome.code not in case.codes:
        wrong.append(f"exit code {outcome.code}, expected {' or '.join(map(str, case.codes))}")
    if "Traceback" in outcome.output:
        wrong.append("a traceback")
    if outcome.code == 2:
        printed = sentences(outcome.output)
        if len(printed) != 1:
            wrong.append(f"{len(printed)} sentences")
        elif len(printed[0]) > MAX_SENTENCE:
            wrong.append(f"a sentence of {len(printed[0])} letters")
    if outcome.peak_bytes > MEMORY_BYTES:
        wrong.append(f"{outcome.peak_bytes / 2**30:.1f} GB of memory")
    new = sorted({*after} - {*before})
    left = (
        new
        if outcome.code == 2 and not case.keeps_output
        else [
            name
            for name in new
            if name.endswith(TEMPORARY) or "code_was_run" in name or name.startswith(f"{given.parent}/tmp/")
        ]
    )
    if left:
        wrong.append(f"left: {', '.join(Path(name).name for name in left[:4])}")
    changed = [
        name
        for name, content in before.items()
        if after.get(name) != content and (name.startswith(str(given)) or (outcome.code == 2 and not case.keeps_output))
    ]
    if changed:
        wrong.append(f"changed: {', '.join(Path(name).name for name in changed[:4])}")
    return wrong


def run_case(
    good: GoodInputs, seed: int, number: int, families: list[str], folder: Path
) -> tuple[Case, Outcome, list[str]]:
    """Makes case `number` of a seed in `folder`, runs it and returns what is wrong."""
    rng = random.Random(f"{seed}/{number}")
    maker = Maker(good, rng, folder)
    case = FAMILIES[families[number % len(families)]](maker)
    before = files_below(folder)

    def work() -> int:
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        return main(case.argv)

    outcome = run_forked(work, maker.work)
    return case, outcome, check(outcome, case, before, files_below(folder), maker.given)


def command_line() -> None:
    """Runs the cases that the command line asks for and exits with 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--only", default=",".join(FAMILIES), help="kinds of inputs, by commas")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of the cases that fail")
    chosen = parser.parse_args()
    families, failed, total = chosen.only.split(","), 0, Counter()
    with tempfile.TemporaryDirectory(prefix="damaged-") as temporary:
        good = make_good_inputs(Path(temporary) / "good")
        check_commands(good, Path(temporary))
        before = files_below(good.folder)
        for number in range(chosen.count) if chosen.case is None else [chosen.case]:
            folder = Path(temporary) / f"case{number}"
            case, outcome, wrong = run_case(good, chosen.seed, number, families, folder)
            total[families[number % len(families)], "failed" if wrong else str(outcome.code)] += 1
            if wrong or chosen.case is not None:
                failed += bool(wrong)
                report(number, case, outcome, wrong, temporary)
            if wrong and chosen.keep is not None:
                shutil.copytree(folder, chosen.keep / folder.name, symlinks=True, ignore=_special)
            _remove(folder)
        if files_below(good.folder) != before:
            raise SystemExit("inputs that several cases share have changed")
    for (family, end), count in sorted(total.items()):
        print(f"{family:12} {end:8} {count}")
    print(f"{failed} of {sum(total.values())} failed (seed {chosen.seed})")
    raise SystemExit(failed > 0)


def report(number: int, case: Case, outcome: Outcome, wrong: list[str], folder: str) -> None:
    """Prints a case."""
    last = [line for line in outcome.output.replace("\r", "\n").splitlines() if line.strip()][-1:]
    frames = [line.strip() for line in outcome.output.splitlines() if line.startswith('  File "')]
    frames = frames[-1:] if outcome.code is not None else frames
    print(
        f"#{number} {case.name} | {case.damage[:200]} | {'; '.join(wrong)} | {outcome.code} in {outcome.seconds:.1f} s"
    )
    print(f"    {' '.join(word.replace(folder, '') for word in case.argv)[:300]!r}")
    for line in (*frames, *last):
        print(f"    {line.replace(folder, '')[:400]}")
    sys.stdout.flush()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]


if __name__ == "__main__":
    command_line()
