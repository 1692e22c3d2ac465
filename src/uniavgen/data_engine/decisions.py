"""What becomes of every candidate: its windows, or all reasons why it is dropped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import write_text
from uniavgen.data_engine.blocked_persons import blocked_candidates
from uniavgen.data_engine.candidates import SEGMENTS, Candidate, find_candidates
from uniavgen.data_engine.corpus import FIND_DUPLICATES, GROUP_PERSONS, DuplicateSearch, PersonGrouping
from uniavgen.data_engine.rules import Rules, Violation, score_values
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.windows import Window, find_windows
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.timebase import ClipTiming

BLOCKED: Final = "forget"
"""What drops a person who must stay out; no rule can change it."""
OUTSIDE: Final = "given"
"""What drops a stretch of a video of which a list names others."""
LENGTH: Final = "max_cut_word_s"
"""The rule that a clip must fit in without cutting a word."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """About one candidate."""

    candidate: Candidate
    person: str
    windows: Sequence[Window]
    """What is cut; nothing where there are reasons."""
    violations: Sequence[Violation]

    @property
    def is_kept(self) -> bool:
        """Returns whether clips are cut of it."""
        return not self.violations

    @property
    def reasons(self) -> tuple[str, ...]:
        """Returns why it is dropped; nothing where it is kept."""
        return tuple(violation.reason for violation in self.violations)


@dataclass(frozen=True, kw_only=True)
class DroppedSource:
    """A source without candidates."""

    source: SourceVideo
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """About a whole work folder, in the order of keys."""

    candidates: Sequence[Decision]
    sources: Sequence[DroppedSource]


def decide(
    work: WorkFolder,
    rules: Rules,
    timing: ClipTiming,
    *,
    group_persons: PersonGrouping = GROUP_PERSONS,
    find_duplicates: DuplicateSearch = FIND_DUPLICATES,
) -> Decisions:
    """Applies rules to the records of a work folder. Nothing is computed anew.

    Duplicates are looked for among those that the other rules keep, so that a dropped one does not take its copy along;
    that a dropped one repeats a kept one is told as well.
    """
    work.check()
    candidates: list[Candidate] = []
    dropped: list[DroppedSource] = []
    for source in work.sources():
        outputs = work.outputs(source.key)
        found = find_candidates(source, outputs)
        candidates += found
        if not found:
            dropped.append(DroppedSource(source=source, reason=_reason_of_source(work, outputs)))
    blocked = blocked_candidates(work)
    persons = group_persons([*blocked, *candidates])
    kept_out, persons = {*persons[: len(blocked)]}, persons[len(blocked) :]
    decisions = [
        _decide(candidate, person, rules, timing, is_blocked=person in kept_out)
        for candidate, person in zip(candidates, persons, strict=True)
    ]
    if rules.drop_duplicates:
        copies = find_duplicates([decision.candidate for decision in decisions if decision.is_kept])
        decisions = [_without_copy(decision, copies) for decision in decisions]
        decisions = _with_repeated(decisions, find_duplicates(candidates))
    return Decisions(candidates=decisions, sources=dropped)


def write_decisions(path: Path, decisions: Decisions, rules: Rules) -> None:
    """Writes a line of JSON for every candidate, and for every source without one."""
    rows: list[dict[str, Any]] = [
        {
            "key": decision.candidate.key,
            "source": str(decision.candidate.source.path),
            "start_s": decision.candidate.start_s,
            "end_s": decision.candidate.end_s,
            "person": decision.person,
            "reasons": list(decision.reasons),
            "start_frames": [window.start_frame for window in decision.windows],
            "scores": dict(score_values(rules, decision.candidate)),
        }
        for decision in decisions.candidates
    ]
    rows += [
        {"key": each.source.key, "source": str(each.source.path), "reasons": [each.reason]}
        for each in decisions.sources
    ]
    write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def _decide(candidate: Candidate, person: str, rules: Rules, timing: ClipTiming, is_blocked: bool) -> Decision:
    found = [Violation(rule=BLOCKED, reason="the person wants to stay out")] if is_blocked else []
    if candidate.source.given and candidate.given is None:
        found.append(Violation(rule=OUTSIDE, reason="it lies outside the clips that its list names"))
    found += rules.violations(candidate)
    windows = find_windows(candidate, timing, rules.max_cut_word_s)
    spoken = [window for window in windows if len(window.words) >= rules.min_words]
    if not windows:
        length_s = candidate.end_s - candidate.start_s
        reason = f"no {float(timing.duration_s):.2f} s that cut no word lie in its {length_s:.2f} s"
        found.append(Violation(rule=LENGTH, reason=reason))
    elif not spoken:
        found.append(Violation(rule="min_words", reason=f"fewer than {rules.min_words} words are spoken"))
    return Decision(candidate=candidate, person=person, windows=() if found else spoken, violations=tuple(found))


def _repetition(key: str) -> Violation:
    return Violation(rule="drop_duplicates", reason=f"it repeats {key}")


def _without_copy(decision: Decision, copies: Mapping[str, str]) -> Decision:
    """Returns the decision, to drop it where it is a copy of another kept candidate."""
    other = copies.get(decision.candidate.key)
    return decision if other is None else replace(decision, windows=(), violations=(_repetition(other),))


def _with_repeated(decisions: Sequence[Decision], copies: Mapping[str, str]) -> list[Decision]:
    """Returns the decisions; those that are dropped for other reasons also say which kept candidate they repeat."""
    kept = {decision.candidate.key for decision in decisions if decision.is_kept}
    twins = dict(copies) | {other: key for key, other in copies.items() if key in kept}
    return [
        replace(decision, violations=(*decision.violations, _repetition(twins[key])))
        if not decision.is_kept
        and (key := decision.candidate.key) in twins
        and twins[key] in kept
        and _repetition(twins[key]) not in decision.violations
        else decision
        for decision in decisions
    ]


def _reason_of_source(work: WorkFolder, outputs: Any) -> str:
    """Returns why a source has no candidates: the first stage with a reason, or one that was not run."""
    for stage in work.stages:
        if stage not in outputs:
            return f"{stage} was not computed yet"
        if outputs[stage].reason:
            return f"{stage}: {outputs[stage].reason}" if stage != SEGMENTS else outputs[stage].reason
    return "there is no stretch in which one visible face talks"
