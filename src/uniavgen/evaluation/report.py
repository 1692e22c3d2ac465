"""Scores to report.json and report.md: the same scores give the same bytes.

report.json holds `systems.NAME.metrics.METRIC.{mean,low,high,n}`, `systems.NAME.clips[]` (`id`, `scores`,
`not_measured` with reasons), `comparisons[]` (paired differences), and what was run: `protocol`, `networks`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uniavgen.evaluation.metric import MadeClip, Metric, NotMeasured, TruthClip
from uniavgen.evaluation.statistics import Estimate, estimate
from uniavgen.media.files import whole_file

FORMAT = 1
DIGITS = 4
"""Decimals that are kept, fewer than float32 sums differ by between machines of one kind."""


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """What the metrics say about one clip."""

    id: str
    scores: Mapping[str, float]
    not_measured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SystemScores:
    """All clips of one system."""

    name: str
    description: str
    clips: Sequence[ClipScores]

    def values(self, metric: str) -> dict[str, float]:
        return {clip.id: clip.scores[metric] for clip in self.clips if metric in clip.scores}


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole evaluation."""

    title: str
    protocol: Mapping[str, Any]
    """Settings that decide the result: plain JSON values."""
    networks: Mapping[str, str]
    """Name to checksum of every network that had a say."""
    metrics: Mapping[str, str]
    """Name to description."""
    systems: Sequence[SystemScores]
    comparisons: Sequence[tuple[str, str, str]] = ()
    """(metric, system, system it is compared with): reported as the paired difference."""

    def to_json(self) -> str:
        systems = {
            system.name: {
                "description": system.description,
                "metrics": {name: asdict(estimate(list(system.values(name).values()))) for name in self.metrics},
                "clips": [asdict(clip) for clip in system.clips],
            }
            for system in self.systems
        }
        data = {
            "format": FORMAT,
            "title": self.title,
            "protocol": dict(self.protocol),
            "networks": dict(self.networks),
            "metrics": dict(self.metrics),
            "systems": systems,
            "comparisons": [
                {"metric": metric, "system": a, "against": b, **asdict(self._difference(metric, a, b))}
                for metric, a, b in self.comparisons
            ],
        }
        return json.dumps(_rounded(data), indent=2, sort_keys=True) + "\n"

    def to_markdown(self) -> str:
        lines = [f"# {self.title}", "", "Mean over clips and 95 % bootstrap interval.", ""]
        lines += ["| system | " + " | ".join(self.metrics) + " |", "|---|" + "---|" * len(self.metrics)]
        for system in self.systems:
            cells = [_cell(estimate(list(system.values(name).values()))) for name in self.metrics]
            lines.append(f"| {system.name} | " + " | ".join(cells) + " |")
        if self.comparisons:
            lines += ["", "| paired difference | | mean |", "|---|---|---|"]
            lines += [f"| {a} - {b} | {m} | {_cell(self._difference(m, a, b))} |" for m, a, b in self.comparisons]
        lines += ["", "Systems:", *(f"- **{system.name}**: {system.description}" for system in self.systems)]
        lines += ["", "Metrics:", *(f"- **{name}**: {text}" for name, text in self.metrics.items())]
        reasons = sorted({(s.name, *item) for s in self.systems for c in s.clips for item in c.not_measured.items()})
        if reasons:
            lines += ["", "Not measured:", *(f"- {system}, {metric}: {reason}" for system, metric, reason in reasons)]
        lines += ["", "Run with:", *(f"- {name}: {value}" for name, value in self.protocol.items())]
        lines += ["", "Networks:", *(f"- {name}: {checksum}" for name, checksum in self.networks.items())]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """report.json and report.md into `folder`."""
        for name, text in (("report.json", self.to_json()), ("report.md", self.to_markdown())):
            with whole_file(folder / name) as partial:
                partial.write_text(text)

    def _difference(self, metric: str, a: str, b: str) -> Estimate:
        named = {system.name: system for system in self.systems}
        ours, theirs = named[a].values(metric), named[b].values(metric)
        return estimate([ours[key] - theirs[key] for key in ours if key in theirs])


def score(metrics: Sequence[Metric], made: MadeClip, truth: TruthClip) -> ClipScores:
    """Every metric's number or reason for one clip."""
    scores: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for metric in metrics:
        try:
            scores[metric.name] = metric.score(made, truth)
        except NotMeasured as reason:
            reasons[metric.name] = str(reason)
    return ClipScores(id=truth.key, scores=scores, not_measured=reasons)


def _cell(result: Estimate) -> str:
    if result.mean is None:
        return "-"
    return f"{result.mean:.3f} [{result.low:.3f}, {result.high:.3f}] n={result.n}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
