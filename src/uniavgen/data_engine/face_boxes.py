"""Faces over time: detections are joined to tracks by overlap; stages that follow read them back from the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int

BoxShares = tuple[float, float, float, float]
"""Left, top, right, bottom in shares of the picture's sides."""
_FIELDS: Final = ("track", "time_s", "box", "is_confirmed", "mouth_opening")


@dataclass(frozen=True, kw_only=True)
class FaceSample:
    """A face at one moment."""

    box: BoxShares
    is_confirmed: bool
    """Whether the mesh sees a face there too."""
    mouth_opening: float


class TrackBuilder:
    """Joins faces of one moment to those of the moments before, by the overlap of their boxes.

    A face belongs to the track whose last box it overlaps most, unless that was seen in another shot, too long ago, or
    overlaps too little; then it begins a new one.
    """

    def __init__(self, min_iou: float, max_gap_s: float) -> None:
        self._min_iou, self._max_gap_s = min_iou, max_gap_s
        self._shots: list[int] = []
        self._live: dict[int, tuple[float, BoxShares]] = {}
        self._rows: list[tuple[int, float, FaceSample]] = []

    def add(self, time_s: float, shot: int, faces: Sequence[FaceSample]) -> None:
        """Takes the faces of the next moment."""
        self._live = {
            track: last
            for track, last in self._live.items()
            if self._shots[track] == shot and time_s - last[0] <= self._max_gap_s
        }
        overlaps = sorted(
            (
                (-overlap(face.box, last[1]), index, track)
                for index, face in enumerate(faces)
                for track, last in self._live.items()
            ),
        )
        chosen: dict[int, int] = {}
        for negative, index, track in overlaps:
            if -negative >= self._min_iou and index not in chosen and track not in chosen.values():
                chosen[index] = track
        for index, face in enumerate(faces):
            if index not in chosen:
                chosen[index] = len(self._shots)
                self._shots.append(shot)
            self._live[chosen[index]] = (time_s, face.box)
            self._rows.append((chosen[index], time_s, face))

    def boxes(self) -> "FaceBoxes":
        """Returns all tracks so far."""
        faces = [face for _, _, face in self._rows]
        return FaceBoxes(
            shots=np.array(self._shots, np.int64),
            track=np.array([track for track, _, _ in self._rows], np.int64),
            time_s=np.array([time_s for _, time_s, _ in self._rows], np.float64),
            box=np.array([face.box for face in faces], np.float64).reshape(-1, 4),
            is_confirmed=np.array([face.is_confirmed for face in faces], bool),
            mouth_opening=np.array([face.mouth_opening for face in faces], np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class FaceBoxes:
    """The face tracks of a source, a row for each time a face was seen, in the order of time.

    Letters: k tracks, n rows.
    """

    shots: Int[np.ndarray, " k"]
    """Index of the shot that each track lies in."""
    track: Int[np.ndarray, " n"]
    time_s: Float[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    is_confirmed: Bool[np.ndarray, " n"]
    mouth_opening: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "FaceBoxes":
        """Reads what `arrays` has written."""
        return cls(shots=arrays["shots"], **{name: arrays[name] for name in _FIELDS})

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays of a record."""
        return {"shots": self.shots, **{name: getattr(self, name) for name in _FIELDS}}

    def of_track(self, track: int, start_s: float = -np.inf, end_s: float = np.inf) -> "FaceBoxes":
        """Returns the rows of one track in an interval."""
        rows = (self.track == track) & (self.time_s >= start_s) & (self.time_s <= end_s)
        return FaceBoxes(shots=self.shots, **{name: getattr(self, name)[rows] for name in _FIELDS})

    def box_at(self, track: int, time_s: float) -> Float[np.ndarray, " 4"]:
        """Returns the box of a track, interpolated between the times at which it was seen."""
        rows = self.of_track(track)
        return np.array([np.interp(time_s, rows.time_s, rows.box[:, side]) for side in range(4)])


def overlap(a: BoxShares, b: BoxShares) -> float:
    """Returns intersection over union."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
