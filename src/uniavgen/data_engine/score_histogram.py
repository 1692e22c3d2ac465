"""How a score is spread over candidates, kept and dropped, beside its limits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from uniavgen.data_engine.candidates import SEGMENTS
from uniavgen.data_engine.decisions import Decision
from uniavgen.data_engine.rules import Limit, Rules

NUM_BINS: Final = 32
_OUTLIERS: Final = 0.01
"""Share of scores at either end that are drawn in the outermost bins. [ours]"""
_PLACES: Final = ("start_s", "end_s", "shot", "track")
"""Numbers of segments that are no scores."""


def score_histograms(decisions: Sequence[Decision], rules: Rules) -> list[dict[str, Any]]:
    """Returns JSON of a histogram for each number that stages give for candidates, those with limits first.

    `score`, `reason`, `minimum` and `maximum` of its limit or null; `edges`; counts `kept` and `dropped` a bin;
    `missing`, how many candidates lack the number.
    """
    limits = {(stage, name): limit for stage, scores in rules.scores.items() for name, limit in scores.items()}
    others = {place: None for decision in decisions for place in _numbers(decision) if place not in limits}
    histograms = [_histogram(decisions, *place, limits.get(place)) for place in [*limits, *sorted(others)]]
    return [histogram for histogram in histograms if histogram is not None]


def _numbers(decision: Decision) -> list[tuple[str, str]]:
    """Returns stage and name of each number of a candidate."""
    candidate, places = decision.candidate, []
    for stage in candidate.outputs:
        rows = candidate.source_value(stage, SEGMENTS)
        row = rows[candidate.index] if rows else None
        if isinstance(row, Mapping):
            places += [(stage, name) for name in row if name not in _PLACES and _number(row[name]) is not None]
    return places


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _histogram(decisions: Sequence[Decision], stage: str, name: str, limit: Limit | None) -> dict[str, Any] | None:
    """Returns None where no candidate has the number."""
    numbers = [_number(decision.candidate.score(stage, name)) for decision in decisions]
    found = np.array([number for number in numbers if number is not None])
    if not len(found):
        return None
    kept = np.array([d.is_kept for d, number in zip(decisions, numbers, strict=True) if number is not None])
    thresholds = [] if limit is None else [each for each in (limit.minimum, limit.maximum) if each is not None]
    low, high = np.quantile(found, [_OUTLIERS, 1 - _OUTLIERS])
    low, high = min([low, *thresholds]), max([high, *thresholds])
    margin = (high - low) * 0.04 or 0.5
    edges = np.linspace(low - margin, high + margin, NUM_BINS + 1)
    inside = np.clip(found, edges[0], edges[-1])
    return {
        "score": f"{stage}.{name}",
        "reason": None if limit is None else limit.reason,
        "minimum": None if limit is None else limit.minimum,
        "maximum": None if limit is None else limit.maximum,
        "edges": [float(f"{edge:.5g}") for edge in edges],
        "kept": np.histogram(inside[kept], edges)[0].tolist(),
        "dropped": np.histogram(inside[~kept], edges)[0].tolist(),
        "missing": len(numbers) - len(found),
    }
