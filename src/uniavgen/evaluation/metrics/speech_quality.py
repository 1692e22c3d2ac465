"""Speech quality without a reference, by DNSMOS P.835. [ours]"""

from functools import cached_property

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.dnsmos import DNSMOS_PACKAGES, Dnsmos


class SpeechQuality(Metric):
    """How a listener would rate the sound."""

    name = "speech_quality"
    group = Group.OPEN
    required_networks = ("dnsmos",)
    packages = DNSMOS_PACKAGES
    columns = tuple(
        Column(
            name=f"dnsmos_{key}",
            description=f"DNSMOS P.835, {content}; 1 to 5, clean speech has 3 to 4",
            better=Better.HIGHER,
        )
        for key, content in (("sig", "the speech itself"), ("bak", "the background"), ("ovr", "overall"))
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        scores = self._dnsmos.scores(audible_waveform(clip))
        return Measurement(scores={f"dnsmos_{key}": value for key, value in scores.items()})

    @cached_property
    def _dnsmos(self) -> Dnsmos:
        return Dnsmos(self.context.weights["dnsmos"].path)
