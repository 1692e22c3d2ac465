"""Measures the data engine on two films with known truth, A and B.

Thresholds of `data/rules` were chosen on A; B has other people and was looked at afterwards.

    python benchmarks/data_engine.py --assets DIR --work DIR --out docs/results/data_engine.json

Needs the networks of `uniavgen data run` in DIR, the extra `data`, $UNIAVGEN_HEADS and $UNIAVGEN_SPEECH for rendered
people, and $UNIAVGEN_CLIPS, a folder with the clips that `tests/data_engine/film.py` names. Films and records stay in
the work folder, so that a second run with other rules only decides anew.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.data_engine.film import CASTS, make_film
from tests.data_engine.film_judge import REASONS, FilmReport, judge

from tables import table
from uniavgen.data_engine.choose_executor import choose_executor
from uniavgen.data_engine.decisions import decide
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.perception.weights import WeightResolver
from uniavgen.timebase import Timebase
from uniavgen.workflows.data_engine import StageSelection, load_rules, run_stages

NUM_FRAMES = 81


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measures the data engine on two films with known truth.")
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--film", choices=tuple(CASTS), action="append", help="both if left out")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--details", action="store_true", help="says what became of each stretch")
    options = parser.parse_args(words)
    reports = {
        name: measure(name, options.work, WeightResolver(assets=options.assets), options.jobs)
        for name in options.film or CASTS
    }
    if options.details:
        for report in reports.values():
            print("\n".join(detail_lines(report)))
    tables = {
        "keep and drop": keep_and_drop(reports),
        "faults": faults(reports),
        "offsets": offsets(reports),
        "cuts and persons": cuts_and_persons(reports),
    }
    for title, (head, rows) in tables.items():
        print(f"\n{title}\n{table(head, rows)}")
    if options.out:
        result = {
            "question": "Are planted faults found, and is nothing else dropped?",
            "how": "python benchmarks/data_engine.py --assets DIR --work DIR --out docs/results/data_engine.json",
            "tables": {title: {"head": head, "rows": rows} for title, (head, rows) in tables.items()},
        }
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measure(name: str, work: Path, resolver: WeightResolver, jobs: int) -> FilmReport:
    """Makes a film, runs all stages on it, and judges what the rules of `data/rules` decide."""
    film = make_film(work / name / "film", name)
    records = work / name / "records"
    run_stages(
        [source.path for source in film], records, StageSelection(resolver=resolver), choose_executor(jobs, None)
    )
    folder, timing = WorkFolder(records), Timebase().clip(NUM_FRAMES)
    return judge(film, folder, decide(folder, load_rules(), timing), timing)


def keep_and_drop(reports: dict[str, FilmReport]) -> tuple[list[str], list[list[str]]]:
    """Returns precision and recall for each film and kind of picture."""
    rows, head = [], ["film", "stretches", "number"]
    for name, report in reports.items():
        for kind, clips in (("all", None), ("rendered people", False), ("clips", True)):
            scores = report.scores(clips)
            count = sum(clips is None or verdict.is_clip == clips for verdict in report.verdicts)
            head = [*head[:3], *scores]
            rows.append([name.upper(), kind, str(count), *(f"{value:.2f}" for value in scores.values())])
    return head, rows


def faults(reports: dict[str, FilmReport]) -> tuple[list[str], list[list[str]]]:
    """Returns how many stretches with each fault were dropped, and how many of them with it among the reasons."""
    rows = []
    for fault in ("", *REASONS):
        row = [fault or "nothing planted: kept"]
        for report in reports.values():
            there = [verdict for verdict in report.verdicts if verdict.stretch.fault == fault]
            dropped = [verdict for verdict in there if not verdict.is_kept]
            if fault:
                row += [f"{len(dropped)} of {len(there)}", str(sum(verdict.is_named for verdict in dropped))]
            else:
                row += [f"{len(there) - len(dropped)} of {len(there)}", ""]
        rows.append(row)
    return ["planted", *(f"{name.upper()}: {what}" for name in reports for what in ("dropped", "named"))], rows


def offsets(reports: dict[str, FilmReport]) -> tuple[list[str], list[list[str]]]:
    """Returns planted and measured offsets."""
    rows = [
        [name.upper(), source, f"{planted:.0f}", "" if found is None else f"{found:.0f}", f"{measured_s:.0f}"]
        for name, report in reports.items()
        for source, (planted, found, measured_s) in report.offsets_ms.items()
    ]
    return ["film", "source", "sound is late by, ms", "found, ms", "from s"], rows


def cuts_and_persons(reports: dict[str, FilmReport]) -> tuple[list[str], list[list[str]]]:
    """Returns what is measured over a whole film."""
    rows = []
    for name, report in reports.items():
        planted, found, extra = report.cuts
        f1 = [f"{value:.2f}" for value in report.person_f1.values()]
        rows.append([name.upper(), f"{found} of {planted}", str(extra), str(report.crossing), *f1])
    head = ["film", "cuts and dissolves found", "others found", "clips across one"]
    return [*head, "persons F1, rendered", "persons F1, clips"], rows


def detail_lines(report: FilmReport) -> list[str]:
    """Returns a line for each stretch."""
    return [
        f"{v.source} {v.stretch.start_s:.2f}-{v.stretch.end_s:.2f} {v.stretch.fault or 'good'}: "
        f"{'kept' if v.is_kept else 'dropped'} {'; '.join(v.reasons)}"
        for v in report.verdicts
    ]


if __name__ == "__main__":
    main()
