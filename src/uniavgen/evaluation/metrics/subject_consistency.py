"""SC: whether the subject looks the same throughout, by DINO features, as VBench defines it. [paper 4.2; VBench]

Letters: F frames, d numbers of a feature.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.dino import DinoFeatures


class SubjectConsistency(Metric):
    """Cosines of DINO features over time."""

    name = "subject_consistency"
    group = Group.PAPER
    required_networks = ("dino",)
    columns = (
        Column(
            name="sc",
            description="subject consistency as VBench defines it: mean over frames of the cosines of DINO features "
            "with the first and with the previous frame; 0 to 1",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        return Measurement(scores={"sc": consistency(self._dino.embed(clip.frames))})

    @cached_property
    def _dino(self) -> DinoFeatures:
        return DinoFeatures(self.context.weights["dino"].path, self.context.device)


def consistency(features: Float[np.ndarray, "F d"]) -> float:
    """Returns VBench's mean of two cosines, each at least 0, over all frames but the first."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    with_first = np.maximum(unit[1:] @ unit[0], 0)
    with_previous = np.maximum((unit[1:] * unit[:-1]).sum(axis=1), 0)
    return float((with_first + with_previous).mean() / 2)
