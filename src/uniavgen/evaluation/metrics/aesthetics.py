"""PQ and CU: production quality and content usefulness of the sound, by AudioBox-Aesthetics. [paper 4.2]"""

from functools import cached_property

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.audio_aesthetics import AESTHETICS_PACKAGES, AudioAestheticsModel


class AudioAesthetics(Metric):
    """Two of the network's four axes."""

    name = "aesthetics"
    group = Group.PAPER
    required_networks = ("audiobox-aesthetics",)
    packages = AESTHETICS_PACKAGES
    columns = (
        Column(
            name="pq",
            description="production quality of the sound by AudioBox-Aesthetics, 1 to 10; clean speech has 7 to 8",
            better=Better.HIGHER,
        ),
        Column(
            name="cu",
            description="content usefulness of the sound by AudioBox-Aesthetics, 1 to 10; clean speech has 6 to 7",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        scores = self._model.scores(audible_waveform(clip))
        return Measurement(scores={"pq": scores["PQ"], "cu": scores["CU"]})

    @cached_property
    def _model(self) -> AudioAestheticsModel:
        return AudioAestheticsModel(self.context.weights["audiobox-aesthetics"].path, self.context.device)
