"""Do the metrics measure? Scores of true clips and of the same clips corrupted in known ways.

Truth clips of the built-in prompts (`uniavgen prompts world`) know who speaks and how; of any other clips only what
needs no truth is corrupted. For every corruption: mean of each score, and how often the truth has
the better one (AUC, 0.5 is chance); of an offset the share within 40 ms of the planted one, and the median error.

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
from uniavgen.evaluation.clip import DecodedClip, find_clips, read_clip
from uniavgen.evaluation.corruption import ClipAttributes, Corruption, corruptions, fit_length, mismatched_partners
from uniavgen.evaluation.metric import Better, Column, Metric
from uniavgen.evaluation.prompts import Prompt, read_prompts
from uniavgen.evaluation.registry import select_metrics
from uniavgen.evaluation.statistics import auc
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.weights import WeightResolver

CLOSE_MS = 40.0
OFFSETS = ("lips_offset_ms", "sync_offset_ms")
"""Columns that must follow a shift."""
Scores = dict[str, dict[str, list[float]]]
"""Corruption, column, clips."""


def main() -> None:
    arguments = _arguments()
    files = find_clips(arguments.folder).files
    prompts = [prompt for prompt in read_prompts(arguments.prompts).prompts if prompt.id in files][: arguments.clips]
    names = [name for name in arguments.metrics.split(",") if name]
    selection = select_metrics(names, WeightResolver(assets=arguments.assets))
    scores: Scores = {}
    for prompt, corruption in tqdm(_corrupted(prompts, files), desc="measure", unit="variant", file=sys.stderr):
        if not (arguments.no_shifts and corruption.early_ms):
            _measure(selection.metrics, prompt, corruption, scores)
    columns = [column for metric in selection.metrics for column in metric.columns]
    rows = {name: _row(values, scores["truth"], columns) for name, values in scores.items()}
    result = {"clips": len(prompts), "networks": selection.checksums, **circumstances("cpu"), "rows": rows}
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


def _corrupted(prompts: Sequence[Prompt], files: Mapping[str, Path]) -> Iterator[tuple[Prompt, Corruption]]:
    partners = mismatched_partners([_attributes(prompt) for prompt in prompts])
    for index, prompt in enumerate(prompts):
        clip = read_clip(files[prompt.id])
        others = {name: partner for name, of_all in partners.items() if (partner := of_all[index]) is not None}
        sounds = {name: _fitted_waveform(files[prompts[partner].id], clip) for name, partner in others.items()}
        for corruption in corruptions(clip, sounds):
            yield prompt, corruption


def _fitted_waveform(file: Path, clip: DecodedClip) -> np.ndarray:
    """Returns the waveform of another clip, cut or padded to the length of `clip`."""
    waveform = read_clip(file).waveform
    assert waveform is not None
    assert clip.waveform is not None
    return fit_length(waveform, len(clip.waveform))


def _attributes(prompt: Prompt) -> ClipAttributes:
    """Returns the attributes that are stored beside the truth of a rendered clip."""
    facts = prompt.truth.with_suffix(".json") if prompt.truth else None
    if facts is None or not facts.is_file():
        return ClipAttributes()
    return ClipAttributes.from_facts(json.loads(facts.read_text()))


def _measure(metrics: Sequence[Metric], prompt: Prompt, corruption: Corruption, scores: Scores) -> None:
    columns = scores.setdefault(corruption.name, {})
    for metric in metrics:
        try:
            measured = metric.measure(corruption.clip, prompt).scores
        except NotMeasured:
            continue
        for name, value in measured.items():
            columns.setdefault(name, []).append(value - corruption.early_ms if name in OFFSETS else value)


def _row(
    measured: Mapping[str, list[float]], truth: Mapping[str, list[float]], columns: Sequence[Column]
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in columns:
        values, good = measured.get(column.name, []), truth.get(column.name, [])
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
    """Renders mean (AUC) of every column; for offsets the share within 40 ms and the median error."""
    names = [column.name for column in columns if column.name in rows["truth"]]
    return table(
        ["", *names], [[corruption, *(_cell(row.get(name)) for name in names)] for corruption, row in rows.items()]
    )


def _cell(entry: Mapping[str, float] | None) -> str:
    if entry is None:
        return "-"
    if "close" in entry:
        return f"{entry['close']:.2f}, {entry['median_error_ms']:.0f} ms"
    return f"{entry['mean']:.3f}" + (f" ({entry['auc']:.2f})" if "auc" in entry else "")


if __name__ == "__main__":
    main()
