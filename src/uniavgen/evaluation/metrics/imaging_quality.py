"""IQ: technical quality of the frames by MUSIQ, as VBench defines it: the mean over frames, over 100. [paper 4.2]"""

from functools import cached_property

import numpy as np

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.musiq import MUSIQ_PACKAGES, Musiq


class ImagingQuality(Metric):
    """MUSIQ by pyiqa."""

    name = "imaging_quality"
    group = Group.PAPER
    required_networks = ("musiq",)
    packages = MUSIQ_PACKAGES
    columns = (
        Column(
            name="iq",
            description="imaging quality as VBench defines it (MUSIQ, SPAQ), 0 to 1; good video has 0.7 to 0.8; "
            "experimental: never run",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        return Measurement(scores={"iq": float(np.mean([self._musiq.score(frame) for frame in clip.frames])) / 100})

    @cached_property
    def _musiq(self) -> Musiq:
        return Musiq(self.context.weights["musiq"].path, self.context.device)
