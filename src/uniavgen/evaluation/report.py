"""An evaluation as report.json and report.md: the same measurements give the same bytes.

report.json holds `systems.NAME.metrics.METRIC.{mean,low,high,n}`, `systems.NAME.splits.SPLIT.METRIC` likewise,
`systems.NAME.clips[]` (`id`, `scores`, `not_measured` with reasons, `details`), `comparisons[]` (paired
differences), `published` rows, and what was run: `protocol`, `networks`, `versions`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from uniavgen.artifacts import write_text
from uniavgen.evaluation.metric import Column
from uniavgen.evaluation.prompts import PromptSet
from uniavgen.evaluation.protocol import ClipRow, SystemRows
from uniavgen.evaluation.registry import MissingColumn
from uniavgen.evaluation.statistics import POWER, Comparison, Estimate, compare, estimate
from uniavgen.html_report.page import encodable

FORMAT = 2
DIGITS = 4
"""Decimals that are kept, fewer than float32 sums differ by between machines of one kind."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole evaluation."""

    title: str
    protocol: Mapping[str, Any]
    """Settings that decide the result: plain JSON values."""
    networks: Mapping[str, Mapping[str, str]]
    """Every network that was used: `source`, `licence`, `sha256`."""
    versions: Mapping[str, str]
    """Package to version."""
    columns: Sequence[Column]
    missing: Sequence[MissingColumn]
    prompts: PromptSet
    systems: Sequence[SystemRows]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @cached_property
    def data(self) -> dict[str, Any]:
        """Returns the content of report.json."""
        return _rounded(
            {
                "format": FORMAT,
                "title": self.title,
                "protocol": dict(self.protocol),
                "networks": {name: dict(facts) for name, facts in self.networks.items()},
                "versions": dict(self.versions),
                "metrics": {c.name: _about(c) for c in self.columns},
                "missing": {m.column.name: {**_about(m.column), "reason": m.reason} for m in self.missing},
                "systems": {system.system.name: self._system(system) for system in self.systems},
                "comparisons": [{**pair, **asdict(comparison)} for pair, comparison in self.comparisons],
                "published": {name: dict(row) for name, row in self.published.items()},
            }
        )

    def to_json(self) -> str:
        return encodable(json.dumps(self.data, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"

    def to_markdown(self) -> str:
        lines = [f"# {self.title}", "", "Mean over clips and 95 % bootstrap interval; n is the number of clips.", ""]
        names = [column.name for column in self.columns]
        lines += ["| system | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for system in self.systems:
            cells = [_cell(self.estimates[system.system.name, name]) for name in names]
            lines.append(f"| {system.system.name} | " + " | ".join(cells) + " |")
        lines += [*self._published_lines(), *self._comparison_lines(), "", "Systems:"]
        lines += [
            f"- **{s.system.name}**: {s.system.description}{': ' if s.system.description else ''}"
            f"{s.num_measured} of {len(s.rows)} rows measured"
            + "".join(f", {name} {value}" for name, value in s.system.settings.items())
            for s in self.systems
        ]
        lines += ["", "Metrics:", *(f"- **{c.name}** ({_arrow(c)}): {c.description}" for c in self.columns)]
        if self.missing:
            by_reason: dict[str, list[str]] = {}
            for each in self.missing:
                by_reason.setdefault(each.reason, []).append(each.column.name)
            lines += [
                "",
                "Not computed:",
                *(f"- **{', '.join(names)}**: {reason}" for reason, names in by_reason.items()),
            ]
        reasons = _counted(self.systems)
        if reasons:
            lines += ["", "Not measured:", *(f"- {text}" for text in reasons)]
        lines += ["", "Run with:", *(f"- {name}: {value}" for name, value in self.protocol.items())]
        lines += ["", "Networks:"]
        lines += [
            f"- {name}: {facts['source']}, {facts['licence']}, sha256 {facts['sha256'][:16]}"
            for name, facts in self.networks.items()
        ]
        lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items())]
        return encodable("\n".join(lines)) + "\n"

    def write(self, folder: Path) -> None:
        """Writes report.json and report.md into `folder`."""
        for name, text in (("report.json", self.to_json()), ("report.md", self.to_markdown())):
            write_text(folder / name, text)

    @cached_property
    def comparisons(self) -> list[tuple[dict[str, str], Comparison]]:
        """Returns every pair of systems in every column that both have, on the prompts that both have."""
        comparisons = []
        for first, second in combinations(self.systems, 2):
            for column in self.columns:
                a, b = first.values(column.name), second.values(column.name)
                differences = [a[key] - b[key] for key in a if key in b]
                if differences:
                    names = {"metric": column.name, "system": first.system.name, "against": second.system.name}
                    comparisons.append((names, compare(differences)))
        return comparisons

    @cached_property
    def estimates(self) -> dict[tuple[str, str], Estimate]:
        """Returns mean and interval by names of system and column, or the number of the whole set without one.

        Every number is bootstrapped once, since that takes the longest of all that a report does.
        """
        return {
            (system.system.name, column.name): _estimate(system, column.name)
            for system in self.systems
            for column in self.columns
        }

    def _system(self, system: SystemRows) -> dict[str, Any]:
        splits = sorted({row.split for row in system.rows if row.split})
        return {
            "description": system.system.description,
            "settings": dict(system.system.settings),
            "counts": {"rows": len(system.rows), "measured": system.num_measured, "problems": system.num_problems},
            "metrics": {c.name: asdict(self.estimates[system.system.name, c.name]) for c in self.columns},
            "splits": {split: self._split(system, split) for split in splits} if len(splits) > 1 else {},
            "not_measured": {name: reason for name, reason in system.whole.items() if isinstance(reason, str)},
            "clips": [_row(row) for row in system.rows],
        }

    def _split(self, system: SystemRows, split: str) -> dict[str, Any]:
        ids = {row.id for row in system.rows if row.split == split}
        return {
            column.name: asdict(estimate([v for key, v in system.values(column.name).items() if key in ids]))
            for column in self.columns
        }

    def _mean(self, system: str, column: str) -> float | None:
        """Returns a mean; None also for a column that this report lacks."""
        estimate = self.estimates.get((system, column))
        return None if estimate is None else estimate.mean

    def _published_lines(self) -> list[str]:
        if not self.published:
            return []
        names = list(next(iter(self.published.values())))
        lines = ["", "Beside published rows, which others measured on other prompts.", ""]
        lines += ["| system | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for system in self.systems:
            means = [self._mean(system.system.name, name) for name in names]
            lines.append(f"| **{system.system.name}** | " + " | ".join(map(_number, means)) + " |")
        for name, row in self.published.items():
            lines.append(f"| {name} | " + " | ".join(_number(row[column]) for column in names) + " |")
        return lines

    def _comparison_lines(self) -> list[str]:
        rows = self.comparisons
        if not rows:
            return []
        lines = [
            "",
            "Paired differences on the same prompts. p: sign-flip test. Detectable: the smallest true difference",
        ]
        lines += [f"that this many clips show at the 5 % level in {POWER:.0%} of trials.", ""]
        lines += ["| difference | metric | mean | p | detectable |", "|---|---|---|---|---|"]
        for names, comparison in rows:
            spread = Estimate(mean=comparison.mean, low=comparison.low, high=comparison.high, n=comparison.n)
            numbers = (_cell(spread), _number(comparison.p), _number(comparison.detectable))
            lines.append(
                f"| {names['system']} - {names['against']} | {names['metric']} | " + " | ".join(numbers) + " |"
            )
        return lines


def _estimate(system: SystemRows, column: str) -> Estimate:
    """Returns the mean over clips with its interval, or the number of the whole set, which has none."""
    whole = system.whole.get(column)
    if isinstance(whole, float):
        return Estimate(mean=whole, low=None, high=None, n=system.num_measured)
    return estimate(list(system.values(column).values()))


def _about(column: Column) -> dict[str, str]:
    return {"description": column.description, "better": str(column.better)}


def _row(row: ClipRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "split": row.split,
        "file": row.file.name if row.file is not None else "",
        "sha256": row.sha256,
        "problem": row.problem,
        "scores": dict(row.scores),
        "not_measured": dict(row.not_measured),
        "details": dict(row.details),
    }


def _counted(systems: Sequence[SystemRows]) -> list[str]:
    """Returns the reasons with the number of clips that have them."""
    counts: dict[tuple[str, str, str], int] = {}
    for system in systems:
        for what, reason in system.whole.items():
            if isinstance(reason, str):
                counts[system.system.name, what, reason] = 1
        for row in system.rows:
            whole = {"the whole clip": row.problem} if row.problem else {}
            for what, reason in {**whole, **row.not_measured}.items():
                key = (system.system.name, what, reason)
                counts[key] = counts.get(key, 0) + 1
    return [f"{system}, {what}: {reason} ({count})" for (system, what, reason), count in sorted(counts.items())]


def _arrow(column: Column) -> str:
    return {"higher": "higher is better", "lower": "lower is better"}.get(str(column.better), "describes")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cell(result: Estimate) -> str:
    if result.mean is None:
        return "-"
    interval = "" if result.low is None else f" [{result.low:.3f}, {result.high:.3f}]"
    return f"{result.mean:.3f}{interval} n={result.n}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
