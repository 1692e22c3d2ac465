"""Whose voice it is: CAM++ embeddings of the clip against the reference voice and against other clips. [ours]"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from uniavgen.errors import MediaError
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.media.audio import read_audio
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.speaker import SPEAKER_PACKAGES, SpeakerEncoder

EMBEDDING = "speaker"


class SpeakerSimilarity(Metric):
    """Cosines of speaker embeddings."""

    name = "speaker"
    group = Group.OPEN
    required_networks = ("speaker",)
    packages = SPEAKER_PACKAGES
    columns = (
        Column(
            name="speaker_similarity",
            description="cosine of the speaker embedding (CAM++) of the clip with that of the prompt's voice; "
            "-1 to 1, chance is near 0",
            better=Better.HIGHER,
        ),
        Column(
            name="speaker_across",
            description="mean cosine of the speaker embedding with those of the system's other clips of the same "
            "person",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        embedding = self._encoder.embed(audible_waveform(clip))
        scores, reasons = {}, {}
        try:
            scores["speaker_similarity"] = float(embedding @ self._reference(prompt))
        except NotMeasured as reason:
            reasons["speaker_similarity"] = str(reason)
        return Measurement(scores=scores, reasons=reasons, arrays={EMBEDDING: embedding})

    def combine(
        self, prompts: Sequence[Prompt], arrays: Mapping[str, Mapping[str, np.ndarray]]
    ) -> Mapping[str, Mapping[str, float | str]]:
        embeddings = {name: of_clip[EMBEDDING] for name, of_clip in arrays.items() if EMBEDDING in of_clip}
        people = {prompt.id: prompt.person for prompt in prompts}
        results: dict[str, Mapping[str, float | str]] = {}
        for name, embedding in embeddings.items():
            others = [v for other, v in embeddings.items() if other != name and people[other] == people[name]]
            if not people[name]:
                results[name] = {"speaker_across": "the prompt does not say whose person it is"}
            elif not others:
                results[name] = {"speaker_across": "there is no other clip of this person"}
            else:
                results[name] = {"speaker_across": float(np.mean([embedding @ other for other in others]))}
        return results

    def _reference(self, prompt: Prompt) -> Float[np.ndarray, " d"]:
        if prompt.voice is None:
            raise NotMeasured("the prompt has no voice")
        try:
            return self._encoder.embed(read_audio(prompt.voice, SPEECH_RATE_HZ))
        except MediaError as error:
            raise NotMeasured(str(error).replace(str(prompt.voice), prompt.voice.name)) from error

    @cached_property
    def _encoder(self) -> SpeakerEncoder:
        return SpeakerEncoder(self.context.weights["speaker"].path)
