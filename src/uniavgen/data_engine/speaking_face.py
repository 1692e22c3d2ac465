"""Which of several faces speaks: the one whose mouth moves, and opens when the sound is loud."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from uniavgen.data_engine.envelope import Envelope
from uniavgen.data_engine.face_boxes import FaceBoxes

_SHIFTS_S: Final = np.arange(-2, 3) * 0.05
"""Of the sound against the picture. Larger ones let foreign sound fit too. [ours, measured]"""
_MIN_ROWS: Final = 4


@dataclass(frozen=True, kw_only=True)
class MouthScores:
    """How a mouth moves in an interval, and how that fits the sound."""

    movement: float
    """Standard deviation of the opening over the height of the face."""
    loudness: float
    """Correlation of the opening with the level, at the best shift up to 100 ms."""

    @property
    def speaking(self) -> float:
        """Returns correlation times root of movement: a still mouth loses, much movement alone does not win."""
        return self.movement**0.5 * max(self.loudness, 0.0)


def mouth_scores(faces: FaceBoxes, envelope: Envelope) -> MouthScores:
    """Returns the scores of one track's rows; zeros where its mouth is hardly seen or never moves."""
    confirmed = faces.is_confirmed
    opening, times = faces.mouth_opening[confirmed], faces.time_s[confirmed]
    if len(opening) < _MIN_ROWS or opening.std() < 1e-6:
        return MouthScores(movement=0.0, loudness=0.0)
    levels = (envelope.at(times + shift) for shift in _SHIFTS_S)
    best = max((float(np.corrcoef(opening, level)[0, 1]) for level in levels if level.std() > 1e-6), default=0.0)
    return MouthScores(movement=float(opening.std()), loudness=best)


def speaking_track(rows: Mapping[int, FaceBoxes], envelope: Envelope, min_movement: float, margin: float) -> int | None:
    """Returns the track that speaks: whose mouth moves, and scores `margin` times what every other does; else None.

    rows: of each track in the stretch of speech.
    """
    tracks, found = list(rows), [mouth_scores(faces, envelope) for faces in rows.values()]
    scores = [each.speaking if each.movement >= min_movement else 0.0 for each in found]
    best = int(np.argmax(scores))
    others = [score for index, score in enumerate(scores) if index != best]
    return tracks[best] if scores[best] > margin * max(others, default=0.0) else None
