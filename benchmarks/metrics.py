"""Do the metrics measure? Clips that are as they should be, spoilt in known ways, and what every score says of them.

Truth clips of the built-in prompts (`uniavgen prompts world`) know who speaks and how; of any other clips only what
needs no truth is spoilt. For every way: mean of each score, and how often the truth has the better one (AUC, 0.5 is
chance); of an offset the share within 40 ms of the planted one, and the median error.

    python benchmarks/metrics.py set/truth --prompts set/prompts.jsonl --assets DIR
    python benchmarks/metrics.py clips --prompts clips/prompts.jsonl --metrics wer_base --clips 12 --no-shifts
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from record import circumstances, keep
from tables import table
from uniavgen.evaluation.catalogue import Chosen, Options, choose
from uniavgen.evaluation.clip import Clip, find_clips, read_clip
from uniavgen.evaluation.metric import Better, Column, NotMeasured
from uniavgen.evaluation.networks import Places
from uniavgen.evaluation.prompts import Prompt, read_prompts
from uniavgen.evaluation.spoiling import Known, Spoilt, as_long, partners, spoilt
from uniavgen.evaluation.statistics import auc

CLOSE_MS = 40.0
OFFSETS = ("lips_offset_ms", "sync_offset_ms")
"""Columns that must follow a shift."""
Scores = dict[str, dict[str, list[float]]]
"""Way to spoil, column, clips."""


def main() -> None:
    arguments = _arguments()
    files = find_clips(arguments.folder).files
    prompts = [prompt for prompt in read_prompts(arguments.prompts).prompts if prompt.id in files][: arguments.clips]
    names = [name for name in arguments.metrics.split(",") if name]
    chosen = choose(names, Places(weights={}, assets=arguments.assets), Options())
    scores: Scores = {}
    for prompt, way in tqdm(_ways(prompts, files), desc="measure", unit="variant", file=sys.stderr):
        if not (arguments.no_shifts and way.early_ms):
            _measure(chosen, prompt, way, scores)
    columns = [column for metric in chosen.metrics for column in metric.columns]
    rows = {name: _row(found, scores["truth"], columns) for name, found in scores.items()}
    result = {"clips": len(prompts), "networks": chosen.checksums, **circumstances("cpu"), "rows": rows}
    keep("metrics", result, arguments.out)
    print(_page(rows, columns))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clips ID.mp4 that are as they should be")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--metrics", default="sync,traits", help="names or groups as of uniavgen evaluate")
    parser.add_argument("--clips", type=int, help="only the first ones")
    parser.add_argument("--no-shifts", action="store_true", help="for metrics that do not hear when a sound comes")
    parser.add_argument("--out", help="file for the result instead of benchmarks/results/metrics.json")
    return parser.parse_args()


def _ways(prompts: Sequence[Prompt], files: Mapping[str, Path]) -> Iterator[tuple[Prompt, Spoilt]]:
    chosen = partners([_known(prompt) for prompt in prompts])
    for place, prompt in enumerate(prompts):
        others = {name: found for name, of_all in chosen.items() if (found := of_all[place]) is not None}
        clip = read_clip(files[prompt.id], prompt)
        sounds = {name: _sound(files, prompts[k], clip) for name, k in others.items()}
        for way in spoilt(clip, sounds):
            yield prompt, way


def _sound(files: Mapping[str, Path], other: Prompt, clip: Clip) -> np.ndarray:
    """That of the clip of `other`, as long as that of `clip`."""
    found = read_clip(files[other.id], other).waveform
    assert found is not None
    assert clip.waveform is not None
    return as_long(found, len(clip.waveform))


def _known(prompt: Prompt) -> Known:
    """What stands beside the truth of a rendered clip."""
    facts = prompt.truth.with_suffix(".json") if prompt.truth else None
    if facts is None or not facts.is_file():
        return Known()
    return Known.of(json.loads(facts.read_text()))


def _measure(chosen: Chosen, prompt: Prompt, way: Spoilt, scores: Scores) -> None:
    into = scores.setdefault(way.name, {})
    for metric in chosen.metrics:
        try:
            found = metric.measure(way.clip, prompt).scores
        except NotMeasured:
            continue
        for name, value in found.items():
            into.setdefault(name, []).append(value - way.early_ms if name in OFFSETS else value)


def _row(
    found: Mapping[str, list[float]], truth: Mapping[str, list[float]], columns: Sequence[Column]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in columns:
        values, good = found.get(column.name, []), truth.get(column.name, [])
        if not values or not good:
            continue
        entry = {"n": len(values), "mean": float(np.mean(values))}
        if column.name in OFFSETS:
            errors = np.abs(values)
            entry |= {"close": float((errors <= CLOSE_MS).mean()), "median_error_ms": float(np.median(errors))}
        elif column.better is Better.HIGHER:
            entry["auc"] = auc(good, values)
        elif column.better is Better.LOWER:
            entry["auc"] = auc([-value for value in good], [-value for value in values])
        row[column.name] = entry
    return row


def _page(rows: Mapping[str, Mapping[str, Mapping[str, float]]], columns: Sequence[Column]) -> str:
    """Mean (AUC) of every column; for offsets the share within 40 ms and the median error."""
    names = [column.name for column in columns if column.name in rows["truth"]]
    return table(["", *names], [[way, *(_cell(row.get(name)) for name in names)] for way, row in rows.items()])


def _cell(entry: Mapping[str, float] | None) -> str:
    if entry is None:
        return "-"
    if "close" in entry:
        return f"{entry['close']:.2f}, {entry['median_error_ms']:.0f} ms"
    return f"{entry['mean']:.3f}" + (f" ({entry['auc']:.2f})" if "auc" in entry else "")


if __name__ == "__main__":
    main()
