"""Mouth opening of any face by landmarks of the face mesh: how far it moves, whether it follows the truth. [ours]"""

from collections.abc import Mapping

import numpy as np

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.faces import FaceFinder
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.metrics.mouth import curve_details
from uniavgen.evaluation.mouth import correlation
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.timebase import Timebase

COLUMNS = (
    Column(
        name="mouth_movement",
        description="how far the mouth opens: 95th minus 5th percentile of the distance of the inner lips over face "
        "height, by face mesh; real speech has about 0.1",
        better=Better.NEITHER,
    ),
    Column(
        name="mouth_correlation_mesh",
        description="correlation over time of the mouth opening by face mesh with the rendered truth; -1 to 1",
        better=Better.HIGHER,
    ),
)


class MeshMouth:
    """Stands beside our own mouth reader, which knows rendered faces only."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, faces: FaceFinder) -> None:
        self._faces = faces

    @property
    def networks(self) -> Mapping[str, Weights]:
        return self._faces.networks

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        opening = self._faces.track(clip).mouth_opening
        low, high = np.quantile(opening, [0.05, 0.95])
        scores, reasons = {"mouth_movement": float(high - low)}, {}
        try:
            truth = truth_of(prompt).mouth_opening
            # The truth has a value a frame at 16 a second, the clip one at its own rate.
            shared = min(len(truth), int(len(opening) / clip.fps * Timebase().fps))
            times = (np.arange(shared) + 0.5) / float(Timebase().fps)
            at = np.interp(times, (np.arange(len(opening)) + 0.5) / float(clip.fps), opening)
            scores["mouth_correlation_mesh"] = correlation(at, truth[:shared])
        except NotMeasured as reason:
            reasons["mouth_correlation_mesh"] = str(reason)
        return Measurement(
            scores=scores,
            reasons=reasons,
            details={"curve/mouth opening, face mesh": curve_details(opening, float(clip.fps))},
        )
