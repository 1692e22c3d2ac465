"""The protocol: every metric on every clip of every system; what cannot be measured is a row with its reason.

A system is a folder of clips `ID.mp4`. As a control, the same clips are measured against the next prompt of the set:
whatever a score says beyond that comes from the right sound, words or truth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uniavgen.artifacts import checksum
from uniavgen.errors import DataError, MediaError
from uniavgen.evaluation.clip import Clip, find_clips, mask_file, read_clip
from uniavgen.evaluation.metric import WHOLE, AcrossClips, Measurement, Metric, NotMeasured, NotMeasuredNow
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.evaluation.store import Failure, ScoreStore, metric_digest


@dataclass(frozen=True, kw_only=True)
class System:
    """Whose clips lie in a folder."""

    name: str
    """Key in report.json."""
    folder: Path
    description: str = ""
    against_next: bool = False
    """Whether the clips are measured against the next prompt: chance."""
    unmade: Mapping[str, str] = field(default_factory=dict)
    """Id and reason where a clip could not be made."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What its clips were made with, where that is known: model, sha256 of its weights, sampling; JSON values."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One clip of a system and all that was found in it."""

    id: str
    split: str = ""
    file: Path | None = None
    sha256: str = ""
    problem: str = ""
    """Why it could not be measured at all."""
    scores: Mapping[str, float] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Column to reason."""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SystemRows:
    """All clips of one system, in the order of the prompts."""

    system: System
    rows: Sequence[Row]
    whole: Mapping[str, float | str] = field(default_factory=dict)
    """Columns that only the whole set has: number or reason."""

    def values(self, column: str) -> dict[str, float]:
        """Id to score of the clips that have one."""
        return {row.id: row.scores[column] for row in self.rows if column in row.scores}

    @property
    def num_measured(self) -> int:
        return sum(bool(row.file and not row.problem) for row in self.rows)

    @property
    def num_problems(self) -> int:
        return sum(bool(row.problem) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What `run` has just done, for a progress bar."""

    done: int
    total: int
    system: str
    clip: str


def run(
    systems: Sequence[System],
    prompts: PromptSet,
    metrics: Sequence[Metric],
    store: ScoreStore,
    checksums: Mapping[str, str],
    on_step: Callable[[Step], None] | None = None,
) -> list[SystemRows]:
    """Measure what the store does not hold yet. `checksums`: name of a network to its checksum.

    DataError where a folder is missing, or no clip of any system belongs to a prompt.
    """
    if len(prompts.prompts) < 2 and any(system.against_next for system in systems):
        raise DataError("the control measures clips against the next prompt and needs at least 2 prompts, got 1")
    plans = [_plan(system, prompts) for system in systems]
    total = sum(len(plan) for plan in plans)
    rows = [row for plan in plans for row, _ in plan]
    if not any(row.file is not None for row in rows):
        names = ", ".join(str(system.folder) for system in systems)
        raise DataError(
            f"there is nothing to measure in {names} ('{rows[0].id}': {rows[0].problem}); "
            "name the clips ID.mp4 after the prompts' ids"
        )
    bench = _Bench(metrics, store, checksums)
    found: list[SystemRows] = []
    done = 0
    for system, plan in zip(systems, plans, strict=True):
        rows = []
        for row, pair in plan:
            rows.append(row if row.file is None or pair is None else bench.measured(row, *pair))
            done += 1
            if on_step is not None:
                on_step(Step(done=done, total=total, system=system.name, clip=row.id))
        found.append(_across(system, rows, prompts.prompts, metrics))
    return found


def _across(system: System, rows: Sequence[Row], prompts: Sequence[Prompt], metrics: Sequence[Metric]) -> SystemRows:
    """The rows with what only all clips of a system together tell; embeddings have then done their work."""
    details = {row.id: row.details for row in rows if row.details}
    added: dict[str, dict[str, float | str]] = {}
    for metric in metrics:
        if isinstance(metric, AcrossClips):
            for name, found in metric.combine(prompts, details).items():
                added.setdefault(name, {}).update(found)
    kept = []
    for row in rows:
        # A line that repeats an id is a row of the same id.
        own = {} if row.problem else added.get(row.id, {})
        kept.append(
            replace(
                row,
                scores={**row.scores, **{name: value for name, value in own.items() if isinstance(value, float)}},
                not_measured={**row.not_measured, **{name: why for name, why in own.items() if isinstance(why, str)}},
                details={name: value for name, value in row.details.items() if not name.startswith("embedding/")},
            )
        )
    return SystemRows(system=system, rows=kept, whole=added.get(WHOLE, {}))


def _plan(system: System, prompts: PromptSet) -> list[tuple[Row, tuple[Prompt, Prompt] | None]]:
    """A row for each prompt, each line that is none, and each file that belongs to none; with what to measure it on."""
    folder = find_clips(system.folder)
    plan: list[tuple[Row, tuple[Prompt, Prompt] | None]] = []
    for number, prompt in enumerate(prompts.prompts):
        file = folder.files.get(prompt.id)
        if prompt.id in folder.twice:
            problem = f"there are several clips of this id: {', '.join(p.name for p in folder.twice[prompt.id])}"
        elif file is None:
            problem = system.unmade.get(prompt.id, "there is no clip of this id")
        else:
            problem = ""
        row = Row(id=prompt.id, split=prompt.split, file=file, problem=problem)
        following = prompts.prompts[(number + 1) % len(prompts.prompts)]
        plan.append((row, (prompt, following if system.against_next else prompt)))
    plan += [(Row(id=bad.id, problem=bad.reason), None) for bad in prompts.bad]
    strangers = ({*folder.files} | {*folder.twice}) - {prompt.id for prompt in prompts.prompts}
    plan += [(Row(id=name, problem="no prompt has this id"), None) for name in sorted(strangers)]
    return plan


class _Bench:
    """The metrics at work on one clip after the other."""

    def __init__(self, metrics: Sequence[Metric], store: ScoreStore, checksums: Mapping[str, str]) -> None:
        self._store = store
        self._metrics = [
            (metric, metric_digest(metric, {name: checksums[name] for name in metric.networks})) for metric in metrics
        ]

    def measured(self, row: Row, prompt: Prompt, against: Prompt) -> Row:
        assert row.file is not None
        digest = checksum(row.file)
        mask = mask_file(row.file)
        beside = checksum(mask) if mask.is_file() else ""
        clip: Clip | None = None
        scores: dict[str, float] = {}
        reasons: dict[str, str] = {}
        details: dict[str, Any] = {}
        for metric, metric_key in self._metrics:
            key = ":".join((metric_key[:32], digest[:32], beside[:16], prompt.digest[:16], against.digest[:16]))
            found = self._store.load(key)
            if found is None:
                try:
                    clip = read_clip(row.file, prompt) if clip is None else clip
                except MediaError as error:
                    problem = str(error).replace(str(row.file), row.file.name)
                    return Row(id=row.id, split=row.split, file=row.file, sha256=digest, problem=problem)
                found = self._measure(metric, clip, against, key)
            if isinstance(found, Failure):
                reasons.update({column.name: found.reason for column in metric.columns})
            else:
                scores.update(found.scores)
                reasons.update(found.reasons)
                details.update(found.details)
        return Row(
            id=row.id,
            split=row.split,
            file=row.file,
            sha256=digest,
            scores=scores,
            not_measured=reasons,
            details=details,
        )

    def _measure(self, metric: Metric, clip: Clip, against: Prompt, key: str) -> Measurement | Failure:
        try:
            found: Measurement | Failure = metric.measure(clip, against)
        except NotMeasuredNow as reason:
            return Failure(reason=str(reason))
        except NotMeasured as reason:
            found = Failure(reason=str(reason))
        self._store.save(key, found)
        return found
