"""Candidate intervals: inside one shot, one face that speaks is seen, and there is speech of one voice.

Clips are cut out of them without cutting words (`windows`), which takes the offset of the sound that is measured later.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from uniavgen.config import Config
from uniavgen.config.values import NonNegative, Positive, Probability
from uniavgen.data_engine.cutting import Interval, is_between, split_at, split_at_pauses
from uniavgen.data_engine.envelope import Envelope, read_envelope
from uniavgen.data_engine.face_boxes import FaceBoxes
from uniavgen.data_engine.segment import SpeechSegment
from uniavgen.data_engine.source import SourceVideo
from uniavgen.data_engine.speaking_face import mouth_scores, speaking_track
from uniavgen.data_engine.stage import Stage, StageOutput
from uniavgen.errors import ConfigError
from uniavgen.media.reader import open_media


@dataclass(frozen=True, kw_only=True)
class SegmentsConfig(Config):
    """Settings of `SegmentsStage`."""

    min_s: Positive = 1.0
    max_s: Positive = 20.0
    """Longer stretches are split at pauses. [ours]"""
    max_pause_s: NonNegative = 2.0
    """A longer pause ends a segment. [ours]"""
    silence_s: NonNegative = 1.0
    """A segment may begin that long before its speech and end that long after it. [ours]"""
    margin_s: NonNegative = 0.08
    """What is left out where a dissolve ends or begins, since frames still blend there a little; nothing at a cut.
    [ours]"""
    change_margin_s: NonNegative = 0.75
    """A change of the speaker that is nearer to the end of a shot belongs to it: its place is no more exact, and sound
    and picture may be apart. [ours]"""
    face_margin_s: NonNegative = 0.35
    """A face is taken to be there that long before it is first seen in a shot and after it is last seen. [ours]"""
    confirmed_share: Probability = 0.8
    """Part of the moments in which the mesh must see the face too. [ours]"""
    covered_share: Probability = 0.9
    """Part of a stretch of speech in which a face must be seen. [ours]"""
    min_movement: NonNegative = 0.008
    """Standard deviation of a mouth's opening, over the height of the face, from which it may be one of several that
    speaks; mouths at rest stay below 0.005. [ours, measured]"""
    speaking_margin: Positive = 2.0
    """How many times the score of every other mouth that of the speaking one must be. [ours, measured]"""

    def __post_init__(self) -> None:
        if self.max_s < 2 * self.min_s:
            raise ConfigError(f"max_s must be at least 2 min_s, got {self.max_s} and {self.min_s}")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Speech of one face in one shot, with pauses."""

    shot: int
    track: int
    speech: list[Interval]


class SegmentsStage(Stage):
    """Gives each stretch of speech inside a shot to the face that speaks, and cuts at pauses and where voices change.

    Values: segments, those of `SpeechSegment.values` each, in order; unused, the stretches (start_s, end_s) that belong
    to none, with the reason, also those without speech.
    """

    name = "segments"
    version = 2
    requires = ("shots", "faces", "voice_activity", "transcript", "speaker_changes")
    settings_class = SegmentsConfig
    settings: SegmentsConfig

    def __call__(self, source: SourceVideo, inputs: Mapping[str, StageOutput]) -> StageOutput:
        shots = _without_margins(inputs["shots"].values["shots"], self.settings.margin_s)
        spoken: list[Interval] = [(a, b) for a, b in inputs["voice_activity"].values["speech"]]
        edges, margin_s = [edge for shot in shots for edge in shot], self.settings.change_margin_s
        changes = [change["time_s"] for change in inputs["speaker_changes"].values["changes"]]
        changes = [t for t in changes if min(abs(t - edge) for edge in edges) > margin_s]
        speech = split_at(spoken, changes)
        words = _merged([(word["start_s"], word["end_s"]) for word in inputs["transcript"].values["words"]])
        faces = FaceBoxes.of(inputs["faces"].arrays)
        with open_media(source.path, quiet=True) as reader:
            envelope = read_envelope(reader)
        unused = [
            {"start_s": a, "end_s": b, "reason": "nobody speaks"}
            for shot in shots
            for a, b in _outside(shot, speech)
            if b - a > self.settings.max_pause_s
        ]
        runs = list(self._runs(shots, speech, changes, inputs["faces"].values["tracks"], (faces, envelope), unused))
        segments = []
        for index, run in enumerate(runs):
            bounds = self._bounds(run, shots[run.shot], _neighbours(runs, index), faces)
            pieces = split_at_pauses(*bounds, words, self.settings.max_s)
            for piece in pieces:
                inside = [(max(a, piece[0]), min(b, piece[1])) for a, b in run.speech if a < piece[1] and b > piece[0]]
                if piece[1] - piece[0] < self.settings.min_s or not inside:
                    unused += [{"start_s": a, "end_s": b, "reason": "too short"} for a, b in inside]
                    continue
                segments.append(self._segment(piece, run, inside, inputs["faces"].arrays, faces, envelope).values())
        return StageOutput(values={"segments": segments, "unused": sorted(unused, key=lambda row: row["start_s"])})

    def _runs(
        self,
        shots: Sequence[Interval],
        speech: Sequence[Interval],
        changes: Sequence[float],
        tracks: Sequence[Mapping[str, Any]],
        evidence: tuple[FaceBoxes, Envelope],
        unused: list[dict[str, Any]],
    ) -> Iterator[_Run]:
        """Yields the speech of each face in order, without long pauses; fills `unused` with what belongs to none."""
        run: _Run | None = None
        for shot, (shot_start_s, shot_end_s) in enumerate(shots):
            for start_s, end_s in speech:
                a, b = max(start_s, shot_start_s), min(end_s, shot_end_s)
                if b <= a:
                    continue
                there = self._tracks_there(shot, (a, b), tracks)
                track = None
                if there:
                    track = there[0]
                if len(there) > 1:
                    faces, envelope = evidence
                    rows = {index: faces.of_track(index, a, b) for index in there}
                    track = speaking_track(rows, envelope, self.settings.min_movement, self.settings.speaking_margin)
                if track is None:
                    reason = "several faces, none of which clearly speaks" if there else "no face"
                    unused.append({"start_s": a, "end_s": b, "reason": reason})
                    continue
                if (
                    run
                    and (run.shot, run.track) == (shot, track)
                    and a - run.speech[-1][1] <= self.settings.max_pause_s
                    and not is_between(changes, run.speech[-1][1], a)
                ):
                    run.speech.append((a, b))
                    continue
                if run:
                    yield run
                run = _Run(shot=shot, track=track, speech=[(a, b)])
        if run:
            yield run

    def _tracks_there(self, shot: int, interval_s: Interval, tracks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Returns the confirmed tracks of a shot that are seen nearly all through an interval."""
        (start_s, end_s), margin_s = interval_s, self.settings.face_margin_s
        return [
            index
            for index, track in enumerate(tracks)
            if track["shot"] == shot
            and track["confirmed_share"] >= self.settings.confirmed_share
            and min(end_s, track["end_s"] + margin_s) - max(start_s, track["start_s"] - margin_s)
            >= self.settings.covered_share * (end_s - start_s)
        ]

    def _bounds(
        self, run: _Run, shot: Interval, neighbours: tuple[_Run | None, _Run | None], faces: FaceBoxes
    ) -> Interval:
        """Returns the run's speech with silence around it, as far as shot, face and other people's speech allow."""
        times = faces.of_track(run.track).time_s
        before, after = neighbours
        start_s = max(
            run.speech[0][0] - self.settings.silence_s,
            shot[0],
            times[0] - self.settings.face_margin_s,
            (before.speech[-1][1] + run.speech[0][0]) / 2 if before else 0.0,
        )
        end_s = min(
            run.speech[-1][1] + self.settings.silence_s,
            shot[1],
            times[-1] + self.settings.face_margin_s,
            (after.speech[0][0] + run.speech[-1][1]) / 2 if after else np.inf,
        )
        return float(start_s), float(end_s)

    def _segment(
        self,
        piece: Interval,
        run: _Run,
        speech: Sequence[Interval],
        arrays: Mapping[str, np.ndarray],
        faces: FaceBoxes,
        envelope: Envelope,
    ) -> SpeechSegment:
        rows = faces.of_track(run.track, *piece)
        moments = (arrays["sample_time_s"] >= piece[0]) & (arrays["sample_time_s"] <= piece[1])
        counts = arrays["num_faces"][moments]
        scores = mouth_scores(rows, envelope)
        return SpeechSegment(
            start_s=piece[0],
            end_s=piece[1],
            shot=run.shot,
            track=run.track,
            num_faces=int(np.quantile(counts, 0.9, method="higher")) if len(counts) else 0,
            face_share=float(rows.is_confirmed.sum() / max(moments.sum(), 1)),
            speech_share=sum(b - a for a, b in speech) / (piece[1] - piece[0]),
            mouth_movement=scores.movement,
            mouth_loudness=scores.loudness,
        )


def _neighbours(runs: Sequence[_Run], index: int) -> tuple[_Run | None, _Run | None]:
    """Returns the runs before and behind one in its shot."""
    before, behind = (
        runs[i] if 0 <= i < len(runs) and runs[i].shot == runs[index].shot else None for i in (index - 1, index + 1)
    )
    return before, behind


def _without_margins(shots: Sequence[Sequence[float]], margin_s: float) -> list[Interval]:
    """Returns shots less a margin at each end where something lies between it and the next shot."""
    gaps = [b[0] > a[1] for a, b in pairwise(shots)]
    return [
        (start_s + margin_s * before, end_s - margin_s * behind)
        for (start_s, end_s), before, behind in zip(shots, [False, *gaps], [*gaps, False], strict=True)
    ]


def _outside(shot: Interval, speech: Sequence[Interval]) -> list[Interval]:
    """Returns what of a shot lies between stretches of speech."""
    inside = [(max(a, shot[0]), min(b, shot[1])) for a, b in speech if a < shot[1] and b > shot[0]]
    edges = [shot[0], *(edge for interval in inside for edge in interval), shot[1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _merged(words: Sequence[Interval]) -> list[Interval]:
    """Returns intervals in order, those that overlap as one."""
    merged: list[Interval] = []
    for start_s, end_s in sorted(words):
        if merged and start_s < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end_s, merged[-1][1]))
        else:
            merged.append((start_s, end_s))
    return merged
