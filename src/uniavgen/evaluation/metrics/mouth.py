"""Mouth opening by landmarks of the face mesh: how far it moves, and whether it follows the rendered truth. [ours]"""

import numpy as np
from jaxtyping import Float

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, curve_details
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES, mouth_opening
from uniavgen.timebase import Timebase


class MouthOpening(Metric):
    """Measures any face; the correlation needs the truth of a rendered clip."""

    name = "mouth"
    group = Group.OPEN
    required_networks = MESH_NETWORKS
    packages = MESH_PACKAGES
    columns = (
        Column(
            name="mouth_movement",
            description="how far the mouth opens: 95th minus 5th percentile of the distance of the inner lips over "
            "face height, by face mesh; real speech has about 0.1",
            better=Better.NEITHER,
        ),
        Column(
            name="mouth_correlation_mesh",
            description="correlation over time of the mouth opening by face mesh with the rendered truth; -1 to 1",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        opening = mouth_opening(self.context.faces.landmarks(clip.frames))
        low, high = np.quantile(opening, [0.05, 0.95])
        scores, reasons = {"mouth_movement": float(high - low)}, {}
        details = {"curve/mouth opening, face mesh": curve_details(opening, float(clip.fps))}
        try:
            truth = truth_of(prompt).mouth_opening
            details["curve/mouth opening, truth"] = curve_details(truth, float(Timebase().fps))
            # The truth has a value a frame at 16 a second, the clip one at its own rate.
            shared = min(len(truth), int(len(opening) / clip.fps * Timebase().fps))
            times = (np.arange(shared) + 0.5) / float(Timebase().fps)
            resampled = np.interp(times, (np.arange(len(opening)) + 0.5) / float(clip.fps), opening)
            scores["mouth_correlation_mesh"] = correlation(resampled, truth[:shared])
        except NotMeasured as reason:
            reasons["mouth_correlation_mesh"] = str(reason)
        return Measurement(scores=scores, reasons=reasons, details=details)


def correlation(curve: Float[np.ndarray, " F"], truth: Float[np.ndarray, " F"]) -> float:
    """Returns Pearson's r; 0 for a curve that never moves, NotMeasured for such a truth."""
    a = curve.astype(np.float64) - curve.mean(dtype=np.float64)
    b = truth.astype(np.float64) - truth.mean(dtype=np.float64)
    if b.std() < 1e-6:
        raise NotMeasured("the mouth of the truth never moves")
    if a.std() < 1e-6:
        return 0.0
    return float((a * b).mean() / (a.std() * b.std()))
