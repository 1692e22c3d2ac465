"""Compares what the data engine decides about a film with what was planted in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from tests.data_engine.film import FilmSource, Stretch
from tests.data_engine.test_persons import pairwise_f1

from uniavgen.data_engine.decisions import Decision, Decisions
from uniavgen.data_engine.source import content_key
from uniavgen.data_engine.stage import StageOutput
from uniavgen.data_engine.work_folder import WorkFolder
from uniavgen.timebase import ClipTiming

REASONS: Final[Mapping[str, tuple[str, ...]]] = {
    "swapped voice": ("lips and voice do not fit", "the voice is another", "the voice does not stay the same"),
    "music": ("there is noise or music", "pauses of the speech are filled"),
    "blur": ("the face is blurred",),
    "still": ("the picture stands still", "the mouth hardly moves"),
    "upscaled": ("the picture has little detail",),
    "subtitles": ("there is text on the screen",),
    "two people": ("several faces",),
    "no face": ("no face",),
    "silence": ("nobody speaks",),
    "duplicate": ("it repeats",),
}
"""Of each fault: how the reasons begin that name it."""
COVERED_S: Final = 1.0
"""A stretch is kept if clips lie on so much of it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a stretch."""

    source: str
    stretch: Stretch
    is_kept: bool
    reasons: tuple[str, ...]
    """Of all candidates and unused stretches that overlap with it."""

    @property
    def is_clip(self) -> bool:
        """Returns whether it comes of camera-like clips, not of rendered people."""
        return self.source.startswith("clip")

    @property
    def is_named(self) -> bool:
        """Returns whether a planted fault is among the reasons of a drop."""
        begins = REASONS[self.stretch.fault]
        return not self.is_kept and any(reason.startswith(begins) for reason in self.reasons)


@dataclass(frozen=True, kw_only=True)
class FilmReport:
    """How well a film was judged."""

    verdicts: Sequence[Verdict]
    offsets_ms: Mapping[str, tuple[float, float | None, float]]
    """By source: how late its sound is, how late it was found to be, seconds of speech that were measured."""
    cuts: tuple[int, int, int]
    """Planted cuts and dissolves, those that were found, and those that were found beside them."""
    crossing: int
    """Clips that reach over a cut or into a dissolve by more than a frame."""
    person_f1: Mapping[str, float]
    """Of the groups of persons, for rendered people and for clips."""

    def scores(self, clips: bool | None = None) -> dict[str, float]:
        """Returns precision and recall of keeping and of dropping, and which part of the drops names its fault.

        Counted are stretches: of rendered people, of clips, or of both.
        """
        chosen = [v for v in self.verdicts if clips is None or v.is_clip == clips]
        kept = np.array([verdict.is_kept for verdict in chosen])
        good = np.array([not verdict.stretch.fault for verdict in chosen])
        named = [verdict.is_named for verdict in chosen if verdict.stretch.fault and not verdict.is_kept]
        return {
            "keep precision": _share(kept & good, kept),
            "keep recall": _share(kept & good, good),
            "drop precision": _share(~kept & ~good, ~kept),
            "drop recall": _share(~kept & ~good, ~good),
            "drops named": float(np.mean(named)) if named else 1.0,
        }


def judge(film: Sequence[FilmSource], work: WorkFolder, decisions: Decisions, timing: ClipTiming) -> FilmReport:
    """Compares decisions about a film with its truth."""
    film = [*_with_copies_chosen(film, decisions)]
    outputs = {source.path.name: work.outputs(content_key(source.path)) for source in film}
    by_source = {source.path.name: _decisions_of(decisions, source.path) for source in film}
    return FilmReport(
        verdicts=[
            verdict
            for source in film
            for verdict in _verdicts(source, by_source[source.path.name], outputs[source.path.name], timing)
        ],
        offsets_ms={
            source.path.stem: _offset(source, outputs[source.path.name]["sync"].values)
            for source in film
            if source.sound_late_ms and not source.copy_of
        },
        cuts=_cuts(film, outputs),
        crossing=sum(_crossing(source, by_source[source.path.name], timing) for source in film),
        person_f1={
            kind: _person_f1(
                [source for source in film if source.path.name.startswith("clip") == clips], by_source
            )
            for kind, clips in (("rendered", False), ("clips", True))
        },
    )  # fmt: skip


def _with_copies_chosen(film: Sequence[FilmSource], decisions: Decisions) -> Iterator[FilmSource]:
    """Yields the sources; of a stretch and its copy one is to be kept, whichever, as its name is drawn by content."""
    copies = {source.copy_of: source for source in film if source.copy_of}
    for source in film:
        copy = copies.get(source.path.name)
        stretches = list(source.stretches)
        for index, twin in enumerate(copy.stretches if copy else ()):
            reasons = [
                r for d in _overlapping(_decisions_of(decisions, source.path), stretches[index], 0.5) for r in d.reasons
            ]
            if twin.fault == "duplicate" and any(r.startswith("it repeats") for r in reasons):
                stretches[index] = replace(stretches[index], fault="duplicate")
        if source.copy_of:
            first = next(each for each in film if each.path.name == source.copy_of)
            for index, stretch in enumerate(stretches):
                twin = first.stretches[index]
                found = _overlapping(_decisions_of(decisions, first.path), twin, 0.5)
                if stretch.fault == "duplicate" and any(r.startswith("it repeats") for d in found for r in d.reasons):
                    stretches[index] = replace(stretch, fault="")
        yield replace(source, stretches=stretches)


def _decisions_of(decisions: Decisions, path: Path) -> list[Decision]:
    return [each for each in decisions.candidates if each.candidate.source.path.name == path.name]


def _overlapping(decisions: Sequence[Decision], stretch: Stretch, least_s: float) -> list[Decision]:
    return [d for d in decisions if _overlap_s(d.candidate.start_s, d.candidate.end_s, stretch) >= least_s]


def _overlap_s(start_s: float, end_s: float, stretch: Stretch) -> float:
    return min(end_s, stretch.end_s) - max(start_s, stretch.start_s)


def _verdicts(
    source: FilmSource, decisions: Sequence[Decision], outputs: Mapping[str, StageOutput], timing: ClipTiming
) -> Iterator[Verdict]:
    unused = outputs["segments"].values.get("unused", [])
    for stretch in source.stretches:
        covered = sum(max(_overlap_s(*window, stretch), 0.0) for window in _windows(decisions, timing))
        reasons = [r for d in _overlapping(decisions, stretch, 0.5) for r in d.reasons]
        reasons += [row["reason"] for row in unused if _overlap_s(row["start_s"], row["end_s"], stretch) >= 0.5]
        yield Verdict(
            source=source.path.stem,
            stretch=stretch,
            is_kept=covered >= COVERED_S,
            reasons=tuple(dict.fromkeys(reasons)),
        )


def _windows(decisions: Sequence[Decision], timing: ClipTiming) -> Iterator[tuple[float, float]]:
    for decision in decisions:
        for window in decision.windows:
            start_s = float(window.start_frame / timing.base.fps)
            yield start_s, start_s + float(timing.duration_s)


def _offset(source: FilmSource, sync: Mapping[str, Any]) -> tuple[float, float | None, float]:
    early_ms = sync["offset_ms"]
    return source.sound_late_ms, None if early_ms is None else -early_ms, sync["measured_s"]


def _changes(source: FilmSource) -> list[tuple[float, float]]:
    return sorted([(cut, cut) for cut in source.cuts_s] + [(a, b) for a, b in source.dissolves_s])


def _cuts(film: Sequence[FilmSource], outputs: Mapping[str, Mapping[str, StageOutput]]) -> tuple[int, int, int]:
    planted, found, extra = 0, 0, 0
    for source in film:
        changes = _changes(source)
        shots = outputs[source.path.name]["shots"].values["shots"]
        joins = [(a[1], b[0]) for a, b in pairwise(shots)]
        hits = [any(end <= b + 0.13 and start >= a - 0.13 for end, start in joins) for a, b in changes]
        planted, found = planted + len(changes), found + sum(hits)
        extra += len(joins) - sum(hits)
    return planted, found, extra


def _crossing(source: FilmSource, decisions: Sequence[Decision], timing: ClipTiming) -> int:
    frame_s = float(1 / timing.base.fps)
    windows = list(_windows(decisions, timing))
    return sum(
        any(start_s < b - frame_s and end_s > a + frame_s for a, b in _changes(source)) for start_s, end_s in windows
    )


def _person_f1(film: Sequence[FilmSource], decisions: Mapping[str, Sequence[Decision]]) -> float:
    """Returns F1 over all pairs of candidates that lie on stretches whose speaker is seen and heard."""
    found, true = [], []
    for source in film:
        for decision in decisions[source.path.name]:
            candidate = decision.candidate
            length_s = candidate.end_s - candidate.start_s
            for stretch in source.stretches:
                if stretch.person and _overlap_s(candidate.start_s, candidate.end_s, stretch) > 0.7 * length_s:
                    found.append(decision.person)
                    true.append(stretch.person)
    names = {name: number for number, name in enumerate(dict.fromkeys([*found, *true]))}
    return float(pairwise_f1(np.array([names[f] for f in found]), np.array([names[t] for t in true])))


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else 1.0
