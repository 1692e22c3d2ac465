"""The protocol: every metric on every clip of every system; what cannot be measured is a row with its reason.

A system is a folder of clips `ID.mp4`. As a control, the same clips are measured against the next prompt of the set:
what a score says beyond its control comes from the right sound, words or truth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uniavgen.artifacts import checksum
from uniavgen.errors import DataError, MediaError
from uniavgen.evaluation.clip import DecodedClip, find_clips, mask_file, read_clip
from uniavgen.evaluation.metric import WHOLE_SYSTEM, Measurement, Metric, NotMeasuredNow
from uniavgen.evaluation.prompts import Prompt, PromptSet
from uniavgen.evaluation.store import Failure, ScoreStore, metric_digest
from uniavgen.perception.errors import NotMeasured


@dataclass(frozen=True, kw_only=True)
class System:
    """A folder of clips under a name."""

    name: str
    """Key in report.json."""
    folder: Path
    description: str = ""
    mismatched_prompts: bool = False
    """Whether the clips are measured against the next prompt: chance."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Id to reason where a clip could not be generated."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What its clips were made with, where that is known: model, sha256 of its weights, sampling; JSON values."""


@dataclass(frozen=True, kw_only=True)
class ClipRow:
    """One clip of a system and its measurements."""

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
    rows: Sequence[ClipRow]
    whole: Mapping[str, float | str] = field(default_factory=dict)
    """Columns that only the whole set has: number or reason."""

    def values(self, column: str) -> dict[str, float]:
        """Returns id to score of the clips that have one."""
        return {row.id: row.scores[column] for row in self.rows if column in row.scores}

    @property
    def num_measured(self) -> int:
        return sum(bool(row.file and not row.problem) for row in self.rows)

    @property
    def num_problems(self) -> int:
        return sum(bool(row.problem) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class ClipMeasured:
    """Progress of `run`: one more row is complete."""

    done: int
    total: int
    system: str
    clip: str


@dataclass(frozen=True, kw_only=True)
class _PlannedRow:
    """A row before it is measured, and the prompt to measure against; None for a row without a prompt."""

    row: ClipRow
    prompt: Prompt | None


def run(
    systems: Sequence[System],
    prompts: PromptSet,
    metrics: Sequence[Metric],
    store: ScoreStore,
    checksums: Mapping[str, str],
    on_clip: Callable[[ClipMeasured], None] | None = None,
) -> list[SystemRows]:
    """Measures what the store does not hold yet. `checksums`: name of a network to its checksum.

    DataError where a folder is missing, or no clip of any system belongs to a prompt.
    """
    if len(prompts.prompts) < 2 and any(system.mismatched_prompts for system in systems):
        raise DataError("the control measures clips against the next prompt and needs at least 2 prompts, got 1")
    plans = [_plan(system, prompts) for system in systems]
    if not any(planned.row.file is not None for plan in plans for planned in plan):
        folders, first = ", ".join(str(system.folder) for system in systems), plans[0][0].row
        raise DataError(
            f"there is nothing to measure in {folders} ('{first.id}': {first.problem}); "
            "name the clips ID.mp4 after the prompts' ids"
        )
    runner = _Runner(metrics, store, checksums)
    rows: list[list[ClipRow]] = [[] for _ in systems]
    arrays: list[dict[str, Mapping[str, np.ndarray]]] = [{} for _ in systems]
    total, done = sum(map(len, plans)), 0
    for together in _same_folder(systems):
        # A system and its control have the same clips, so each is decoded once for both.
        for planned_rows in zip(*(plans[index] for index in together), strict=True):
            file = planned_rows[0].row.file
            clip = None if file is None else _ClipFile(file)
            for index, planned in zip(together, planned_rows, strict=True):
                row, clip_arrays = runner.measure(planned, clip)
                rows[index].append(row)
                if clip_arrays and not row.problem:
                    arrays[index][row.id] = clip_arrays
                done += 1
                if on_clip is not None:
                    on_clip(ClipMeasured(done=done, total=total, system=systems[index].name, clip=row.id))
    return [
        _combined(system, rows[index], arrays[index], prompts.prompts, metrics) for index, system in enumerate(systems)
    ]


def _same_folder(systems: Sequence[System]) -> list[list[int]]:
    """Returns the indices of systems by folder, in order."""
    groups: dict[Path, list[int]] = {}
    for index, system in enumerate(systems):
        groups.setdefault(system.folder, []).append(index)
    return list(groups.values())


def _combined(
    system: System,
    rows: Sequence[ClipRow],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    prompts: Sequence[Prompt],
    metrics: Sequence[Metric],
) -> SystemRows:
    """Adds the columns that take all clips of a system together."""
    added: dict[str, dict[str, float | str]] = {}
    for metric in metrics:
        for name, values in metric.combine(prompts, arrays).items():
            added.setdefault(name, {}).update(values)
    complete = []
    for row in rows:
        # A line that repeats an id is a row of the same id, with a problem.
        values = {} if row.problem else added.get(row.id, {})
        scores = {name: value for name, value in values.items() if isinstance(value, float)}
        reasons = {name: value for name, value in values.items() if isinstance(value, str)}
        complete.append(replace(row, scores={**row.scores, **scores}, not_measured={**row.not_measured, **reasons}))
    return SystemRows(system=system, rows=complete, whole=added.get(WHOLE_SYSTEM, {}))


def _plan(system: System, prompts: PromptSet) -> list[_PlannedRow]:
    """Returns a row for each prompt, each line that is none, and each file that belongs to none."""
    folder = find_clips(system.folder)
    plan = []
    for index, prompt in enumerate(prompts.prompts):
        file = folder.files.get(prompt.id)
        if prompt.id in folder.ambiguous:
            names = ", ".join(path.name for path in folder.ambiguous[prompt.id])
            problem = f"there are several clips of this id: {names}"
        elif file is None:
            problem = system.failures.get(prompt.id, "there is no clip of this id")
        else:
            problem = ""
        row = ClipRow(id=prompt.id, split=prompt.split, file=file, problem=problem)
        following = prompts.prompts[(index + 1) % len(prompts.prompts)]
        plan.append(_PlannedRow(row=row, prompt=following if system.mismatched_prompts else prompt))
    plan += [_PlannedRow(row=ClipRow(id=bad.id, problem=bad.reason), prompt=None) for bad in prompts.bad]
    without_prompt = ({*folder.files} | {*folder.ambiguous}) - {prompt.id for prompt in prompts.prompts}
    plan += [
        _PlannedRow(row=ClipRow(id=name, problem="no prompt has this id"), prompt=None)
        for name in sorted(without_prompt)
    ]
    return plan


class _ClipFile:
    """A clip's file, read and decoded when that is first needed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        mask = mask_file(file)
        self.sha256 = checksum(file)
        self.mask_sha256 = checksum(mask) if mask.is_file() else ""

    @cached_property
    def decoded(self) -> DecodedClip | MediaError:
        """Returns the clip, or why it cannot be measured."""
        try:
            return read_clip(self.file)
        except MediaError as error:
            return error


class _Runner:
    """Measures one clip after the other by all metrics."""

    def __init__(self, metrics: Sequence[Metric], store: ScoreStore, checksums: Mapping[str, str]) -> None:
        self._store = store
        self._metrics = [
            (metric, metric_digest(metric, {name: checksums[name] for name in metric.networks})) for metric in metrics
        ]

    def measure(self, planned: _PlannedRow, clip: _ClipFile | None) -> tuple[ClipRow, Mapping[str, np.ndarray]]:
        """Returns the complete row, and the arrays for `Metric.combine`."""
        if clip is None or planned.prompt is None:
            return planned.row, {}
        row, scores, reasons, details, arrays = replace(planned.row, sha256=clip.sha256), {}, {}, {}, {}
        for metric, digest in self._metrics:
            key = ":".join((digest[:32], clip.sha256[:32], clip.mask_sha256[:16], planned.prompt.digest[:16]))
            result = self._store.load(key)
            if result is None:
                if isinstance(clip.decoded, MediaError):
                    problem = str(clip.decoded).replace(str(clip.file), clip.file.name)
                    return replace(row, problem=problem), {}
                result = self._measure(metric, clip.decoded, planned.prompt, key)
            if isinstance(result, Failure):
                reasons.update({column.name: result.reason for column in metric.columns})
            else:
                scores.update(result.scores)
                reasons.update(result.reasons)
                details.update(result.details)
                arrays.update(result.arrays)
        return replace(row, scores=scores, not_measured=reasons, details=details), arrays

    def _measure(self, metric: Metric, clip: DecodedClip, prompt: Prompt, key: str) -> Measurement | Failure:
        try:
            result: Measurement | Failure = metric.measure(clip, prompt)
        except NotMeasuredNow as reason:
            return Failure(reason=str(reason))
        except NotMeasured as reason:
            result = Failure(reason=str(reason))
        self._store.save(key, result)
        return result
