"""Kept candidates to shards: cut in any number of processes, written by one in the order of keys."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uniavgen.artifacts import parse_json, path_exists, read_json_lines, read_text, write_text
from uniavgen.config import dump
from uniavgen.data.given_clip import GivenClip
from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.data_engine.candidates import Candidate
from uniavgen.data_engine.cut import WHOLE, Box, ClipCutter, PlannedClip
from uniavgen.data_engine.decisions import Decision, Decisions
from uniavgen.data_engine.executors import Executor
from uniavgen.data_engine.rules import Rules, score_values
from uniavgen.data_engine.windows import TRANSCRIPT, Window, sound_offset_s
from uniavgen.errors import DataError
from uniavgen.timebase import ClipTiming

PLAN_FILE: Final = "clips.jsonl"
"""Beside shards: key, source and digest of every clip that belongs there, and how they are cut."""
_REMEDY: Final = "delete this folder and pack the clips again"
CAPTION, PROBE = "caption", "probe"
MEASURED: Final = "measurements"
"""Writer of captions where there is no model."""


@dataclass(frozen=True, kw_only=True)
class LostClip:
    """A clip that could not be cut."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What a folder of shards holds."""

    num_clips: int
    sizes: Mapping[tuple[int, int], int]
    """Width and height to the count of clips: the buckets of `prepare --size`."""
    lost: Sequence[LostClip]


def plan_clips(decisions: Decisions, rules: Rules, timing: ClipTiming) -> list[PlannedClip]:
    """Returns the clips of all kept candidates, by key."""
    plans = [_plan(decision, window, rules, timing) for decision in decisions.candidates for window in decision.windows]
    return sorted(plans, key=lambda plan: plan.key)


def pack_clips(
    plans: Sequence[PlannedClip],
    shards: Path,
    cutter: ClipCutter,
    executor: Executor,
    *,
    samples_per_shard: int = 64,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PackSummary:
    """Cuts what a folder of shards lacks, and writes it in the order of keys.

    The bytes depend neither on the executor nor on how often packing was stopped. Raises DataError where the folder
    holds other clips than `plans`.
    """
    cut_like = {"num_frames": cutter.timing.num_frames, "short_side_px": cutter.short_side_px} | {
        "face_mask": sorted(cutter.weights)
    }
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in _plan_rows(plans, cut_like))
    lost: list[LostClip] = []
    with ShardWriter(shards, samples_per_shard) as writer:
        _check_plan(shards, lines, has_clips=bool(writer.keys))
        write_text(shards / PLAN_FILE, lines)
        missing = [plan for plan in plans if plan.key not in writer.keys]
        done = len(plans) - len(missing)
        on_progress(done, len(plans))
        for outcome in executor.map(cutter, missing, in_order=True):
            if outcome.result is None:
                lost.append(LostClip(key=outcome.job.key, reason=outcome.reason))
            else:
                writer.write(outcome.job.key, outcome.result)
            done += 1
            on_progress(done, len(plans))
        writer.finish_shard()
    packed = ShardSet(shards, allow_empty=True)
    return PackSummary(num_clips=len(packed), sizes=_sizes(packed), lost=lost)


def planned_keys(shards: Path) -> dict[str, str]:
    """Returns the key of each clip of a packed folder, with the key of its source."""
    keys: dict[str, str] = {}
    for origin, row in read_json_lines(shards / PLAN_FILE, remedy=_REMEDY):
        key, source = row.get("key"), row.get("source")
        if isinstance(key, str) and isinstance(source, str):
            keys[key] = source
        elif "cut" not in row:
            raise DataError(f"{origin} names no clip with its source; {_REMEDY}")
    return keys


def drop_plans(shards: Path, keys: Iterable[str]) -> None:
    """Removes clips from what belongs to a folder of shards."""
    keys = {*keys}
    rows = [row for _, row in read_json_lines(shards / PLAN_FILE) if row.get("key") not in keys]
    write_text(shards / PLAN_FILE, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def _plan(decision: Decision, window: Window, rules: Rules, timing: ClipTiming) -> PlannedClip:
    candidate, source = decision.candidate, decision.candidate.source
    crop = candidate.source_value(PROBE, "crop")
    facts: dict[str, Any] = {
        "text": window.text,
        "words": [[word.text, word.start_s, word.end_s] for word in window.words],
        "caption": _caption(candidate),
        "speaker": decision.person,
        "language": str(candidate.source_value(TRANSCRIPT, "language") or ""),
        "source": {"key": source.key, "file": source.path.name, "start_s": float(window.start_frame / timing.base.fps)},
        "sound_offset_s": sound_offset_s(candidate),
        "rights": dump(source.rights),
        "scores": dict(score_values(rules, candidate)),
        "seconds": float(timing.duration_s),
        "fps": float(timing.base.fps),
    }
    if candidate.given is not None:
        facts["given"] = _given(candidate, candidate.given)
    return PlannedClip(
        key=f"{source.key}-{window.start_frame:08d}",
        source=source,
        start_frame=window.start_frame,
        sound_offset_s=sound_offset_s(candidate),
        crop=WHOLE if crop is None else _box(crop),
        facts=facts,
    )


def _given(candidate: Candidate, given: GivenClip) -> dict[str, Any]:
    """Returns what is given of a candidate; of a transcript of the whole source only what is said in it."""
    facts = given.given()
    inside = [word for word in given.words if candidate.start_s <= (word.start_s + word.end_s) / 2 < candidate.end_s]
    duration_s = candidate.source_value(PROBE, "duration_s") or 0.0
    if given.words:
        facts["words"] = [[word.text, word.start_s, word.end_s] for word in inside]
        facts["text"] = " ".join(word.text for word in inside)
    elif given.end_s is None and 2 * (candidate.end_s - candidate.start_s) < duration_s:
        # Nobody knows which of the words these are.
        facts.pop("text", None)
    return facts


def _caption(candidate: Candidate) -> str:
    """Returns what a model wrote, else what is given, else a sentence from measurements."""
    given = candidate.given
    is_written = candidate.score(CAPTION, "written_by") not in (None, MEASURED)
    return given.caption if given and given.caption and not is_written else str(candidate.score(CAPTION, "text") or "")


def _box(values: Sequence[float]) -> Box:
    left, top, right, bottom = map(float, values)
    return left, top, right, bottom


def _plan_rows(plans: Sequence[PlannedClip], cut_like: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"cut": dict(cut_like)}
    for plan in plans:
        settings = dataclasses.asdict(dataclasses.replace(plan, source=dataclasses.replace(plan.source, path=Path())))
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:32]
        yield {"key": plan.key, "source": plan.source.key, "digest": digest}


def _check_plan(shards: Path, lines: str, has_clips: bool) -> None:
    path = shards / PLAN_FILE
    if has_clips and not (path_exists(path) and read_text(path, remedy=_REMEDY) == lines):
        raise DataError(
            f"{shards} holds clips of other records, rules or options; name another --out or delete it, cutting "
            "is all that is done again"
        )


def _sizes(shards: ShardSet) -> dict[tuple[int, int], int]:
    sizes: dict[tuple[int, int], int] = {}
    for i in range(len(shards)):
        facts = parse_json(shards.read(i, "json"), f"'{shards.keys[i]}.json' in {shards.folder}", remedy=_REMEDY)
        size = (facts.get("width_px"), facts.get("height_px"))
        if not all(isinstance(side, int) for side in size):
            raise DataError(f"'{shards.keys[i]}.json' in {shards.folder} has no size of its picture; {_REMEDY}")
        sizes[size] = sizes.get(size, 0) + 1
    return dict(sorted(sizes.items()))
