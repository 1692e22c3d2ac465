"""Mouth opening of rendered people, read by a small network of our own, against the truth. [ours]

See `evaluation.mouth` for the reader. The control of the protocol (the next prompt) is chance.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.mouth import SHIPPED, FaceSquare, MouthReader, correlation, spoken_span
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.timebase import Timebase


def curve_details(curve: Float[np.ndarray, " F"], fps: float) -> dict[str, object]:
    """A curve over time as the page draws it."""
    return {"fps": fps, "values": [round(float(value), 4) for value in curve]}


class MouthAgainstTruth:
    """Does the mouth open when it should, and as far."""

    columns = (
        Column(
            name="mouth_correlation",
            description="correlation over time of the mouth opening that our reader sees with the rendered truth; "
            "-1 to 1; the control against the next prompt is chance",
            better=Better.HIGHER,
        ),
        Column(
            name="mouth_correlation_spoken",
            description="the same between the first and the last movement of the true mouth, since silence before and "
            "after is alike in most clips",
            better=Better.HIGHER,
        ),
        Column(
            name="mouth_range",
            description="spread over time of the mouth opening as a share of the truth's; 1 is as it should be",
            better=Better.NEITHER,
        ),
    )
    settings = NOTHING

    def __init__(self, reader: Path | None = None) -> None:
        """`reader`: another file than the shipped one; it is read at the first clip."""
        path = reader or Path(str(SHIPPED))
        self.networks = {"mouth-reader": Weights(label=path.name, path=path)}

    @cached_property
    def _reader(self) -> MouthReader:
        return MouthReader.load(self.networks["mouth-reader"].path)

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        where, truth = FaceSquare.of(truth_of(clip.prompt).face_mask), truth_of(prompt).mouth_opening
        fps = Timebase().fps
        curve = self._reader.read(clip.frames_at(fps), where)
        shared = min(len(curve), len(truth))
        curve, truth = curve[:shared], truth[:shared]
        spread = float(truth.std())
        if spread < 1e-6:
            raise NotMeasured("the mouth of the truth never moves")
        spoken = spoken_span(truth)
        return Measurement(
            scores={
                "mouth_correlation": correlation(curve, truth),
                "mouth_correlation_spoken": correlation(curve[spoken], truth[spoken]),
                "mouth_range": float(curve.std()) / spread,
            },
            details={
                "curve/mouth opening, our reader": curve_details(curve, float(fps)),
                "curve/mouth opening, truth": curve_details(truth, float(fps)),
            },
        )
