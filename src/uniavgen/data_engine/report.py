"""What became of a work folder in numbers: how many videos, candidates, hours are left after which stage and rule."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.decisions import BLOCKED, LENGTH, OUTSIDE, Decision, Decisions
from uniavgen.data_engine.pack import PROBE
from uniavgen.data_engine.rules import Rules
from uniavgen.data_engine.score_histogram import score_histograms
from uniavgen.data_engine.windows import TRANSCRIPT
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.timebase import ClipTiming

MAX_ROWS: Final = 40
"""Of a table whose length grows with the data; the largest are shown."""
MAX_EXAMPLES: Final = 3
_RIGHTS: Final = ("opt_out", "consent", "require_consent", "require_licence", "licences", "allow_minors")


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Finds the numbers of a report; each method returns JSON."""

    work: WorkFolder
    decisions: Decisions
    rules: Rules
    timing: ClipTiming

    def numbers(self) -> dict[str, Any]:
        """Returns all of them."""
        return {
            "totals": self.totals(),
            "stages": self.stages(),
            "rules": self.rule_steps(),
            "unused": self.unused_sources(),
            "histograms": score_histograms(self.decisions.candidates, self.rules),
            "languages": self._table(lambda each: str(each.source_value(TRANSCRIPT, "language") or "unknown")),
            "persons": self._table(lambda each: self._persons[each.key]),
            "sizes": self._table(_picture_size),
            "licences": self._table(lambda each: each.source.rights.licence),
        }

    def totals(self) -> dict[str, Any]:
        """Returns counts, and hours of video, of candidates and of the clips that are kept."""
        found = self.decisions.candidates
        kept = [decision for decision in found if decision.is_kept]
        return {
            "videos": len(self.work.sources()),
            "unreadable": len(self.work.unreadable),
            "without_candidates": len(self.decisions.sources),
            "video_hours": _hours(self._durations_s()),
            "candidates": len(found),
            "candidate_hours": _hours(_length_s(each) for each in found),
            "kept": len(kept),
            "clips": sum(len(decision.windows) for decision in kept),
            "clip_hours": _hours(self._clips_s(each) for each in kept),
            "persons": len({decision.person for decision in found}),
            "kept_persons": len({decision.person for decision in kept}),
            "clip_frames": self.timing.num_frames,
            "clip_s": float(self.timing.duration_s),
        }

    def stages(self) -> list[dict[str, Any]]:
        """Returns how many videos each stage could measure, could not, or was not run on."""
        counts: dict[str, Counter[str]] = {name: Counter() for name in self.work.stages}
        for source in self.work.sources():
            outputs = self.work.outputs(source.key)
            for name, count in counts.items():
                output = outputs.get(name)
                count["not_run" if output is None else "failed" if output.reason else "measured"] += 1
        return [
            {"stage": name, **{kind: count[kind] for kind in ("measured", "failed", "not_run")}}
            for name, count in counts.items()
        ]

    def rule_steps(self) -> list[dict[str, Any]]:
        """Returns the rules in the order in which they are applied.

        `violated`: candidates that break the rule; `alone`: those that break no other; `left` and `left_hours`: what
        keeps this rule and all before it.
        """
        left = list(self.decisions.candidates)
        counts = Counter(rule for decision in left for rule in {each.rule for each in decision.violations})
        alone = Counter(
            next(iter(rules)) for decision in left if len(rules := {each.rule for each in decision.violations}) == 1
        )
        limits = [f"scores.{stage}.{name}" for stage, scores in self.rules.scores.items() for name in scores]
        steps = []
        for rule in [BLOCKED, OUTSIDE, *_RIGHTS, *limits, LENGTH, "min_words", "drop_duplicates"]:
            left = [decision for decision in left if rule not in {each.rule for each in decision.violations}]
            steps.append(
                {
                    "rule": rule,
                    "reason": self._reason(rule),
                    "violated": counts[rule],
                    "alone": alone[rule],
                    "left": len(left),
                    "left_hours": _hours(_length_s(each) for each in left),
                }
            )
        return [step for step in steps if step["violated"] or step["rule"].startswith("scores.")]

    def unused_sources(self) -> list[dict[str, Any]]:
        """Returns why videos gave no candidates, the most frequent reasons first, with the names of a few."""
        names: dict[str, list[str]] = {}
        for each in self.decisions.sources:
            names.setdefault(each.reason, []).append(each.source.path.name)
        for path, reason in self.work.unreadable.items():
            names.setdefault(reason.replace(path, "it"), []).append(path.rpartition("/")[2])
        most = sorted(names.items(), key=lambda item: (-len(item[1]), item[0]))
        return [
            {"reason": reason, "count": len(files), "examples": sorted(files)[:MAX_EXAMPLES]}
            for reason, files in islice(most, MAX_ROWS)
        ]

    @property
    def _persons(self) -> Mapping[str, str]:
        return {decision.candidate.key: decision.person for decision in self.decisions.candidates}

    def _table(self, name_of: Any) -> dict[str, Any]:
        """Returns counts and hours by what `name_of` says of a candidate; the names with the most hours first."""
        groups: dict[str, list[Decision]] = {}
        for decision in self.decisions.candidates:
            groups.setdefault(name_of(decision.candidate), []).append(decision)
        rows = [
            {
                "name": name,
                "videos": len({each.candidate.source.key for each in group}),
                "candidates": len(group),
                "kept": sum(each.is_kept for each in group),
                "clip_hours": _hours(self._clips_s(each) for each in group),
            }
            for name, group in groups.items()
        ]
        rows.sort(key=lambda row: (-row["clip_hours"], -row["kept"], -row["candidates"], row["name"]))
        return {"count": len(rows), "rows": rows[:MAX_ROWS]}

    def _clips_s(self, decision: Decision) -> float:
        return len(decision.windows) * float(self.timing.duration_s)

    def _durations_s(self) -> Iterable[float]:
        for source in self.work.sources():
            output = self.work.outputs(source.key).get(PROBE)
            if output is not None and not output.reason:
                yield float(output.values["duration_s"])

    def _reason(self, rule: str) -> str:
        """Returns what a rule is about: the reason of a score's limit, or of its first violation without numbers."""
        path = rule.split(".")
        if path[0] == "scores":
            return self.rules.scores[path[1]][path[2]].reason
        return _REASONS[rule]


_REASONS: Final = {
    BLOCKED: "the person wants to stay out",
    OUTSIDE: "it lies outside the clips that its list names",
    "opt_out": "the source has opted out",
    "consent": "consent was refused",
    "require_consent": "consent is unknown",
    "require_licence": "the licence is unknown",
    "licences": "the licence is not among those that are taken",
    "allow_minors": "the subject is a minor",
    LENGTH: "no clip of this length fits without cutting a word",
    "min_words": "too few words are spoken",
    "drop_duplicates": "it repeats another candidate",
}


def _length_s(decision: Decision) -> float:
    return decision.candidate.end_s - decision.candidate.start_s


def _hours(lengths_s: Iterable[float]) -> float:
    return round(sum(lengths_s) / 3600, 6)


def _picture_size(candidate: Candidate) -> str:
    video = candidate.source_value(PROBE, "video")
    if not video:
        return "unknown"
    left, top, right, bottom = candidate.source_value(PROBE, "crop") or (0.0, 0.0, 1.0, 1.0)
    return f"{round(video['width_px'] * (right - left))}x{round(video['height_px'] * (bottom - top))}"


def reasons_of(decision: Decision) -> Sequence[Mapping[str, str]]:
    """Returns JSON of the violations of a decision."""
    return [{"rule": each.rule, "reason": each.reason} for each in decision.violations]
