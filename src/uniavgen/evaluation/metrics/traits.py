"""Whether voice and face belong to one person in one mood, by two networks of our own and the paper's grades. [ours]

It stands beside TC and EC, for which the paper asks a large model. See `perception.traits` and
`evaluation.trait_grades`.
"""

from collections.abc import Mapping
from functools import cached_property

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, MetricContext, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.trait_grades import emotion_consistency, timbre_consistency
from uniavgen.perception.face_mesh import MESH_NETWORKS
from uniavgen.perception.frames import LastClipCache
from uniavgen.perception.loading import shipped_weights
from uniavgen.perception.traits import FaceTraitClassifier, Traits, VoiceTraitClassifier
from uniavgen.perception.weights import ResolvedWeights


class TraitConsistency(Metric):
    """Grades the traits of the voice against those of the face."""

    name = "traits"
    group = Group.OPEN
    optional_networks = MESH_NETWORKS
    columns = (
        Column(
            name="timbre_consistency",
            description="gender and age of the voice against those of the face, by readers of our own, on the paper's "
            "five grades; 0 to 1; knows the synthetic world only",
            better=Better.HIGHER,
        ),
        Column(
            name="emotion_consistency",
            description="share of the frames whose emotion the voice may have, by readers of our own, on the paper's "
            "five grades, however loud the voice is; 0 to 1; knows the synthetic world only",
            better=Better.HIGHER,
        ),
    )

    def __init__(self, context: MetricContext) -> None:
        super().__init__(context)
        self._face_traits = LastClipCache[Traits]()

    @property
    def networks(self) -> Mapping[str, ResolvedWeights]:
        paths = {"face-reader": shipped_weights("face_reader"), "voice-reader": shipped_weights("voice_reader")}
        readers = {name: ResolvedWeights(label=path.name, path=path) for name, path in paths.items()}
        return {**self.context.faces.networks, **readers}

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        waveform, fps = audible_waveform(clip), float(clip.fps)
        track = self.context.faces.track(clip.frames, fps)
        face = self._face_traits.get(clip.frames, lambda: self._face_classifier.predict(clip.frames, fps, track))
        voice = self._voice_classifier.predict(waveform)
        return Measurement(
            scores={
                "timbre_consistency": timbre_consistency(voice, face),
                "emotion_consistency": emotion_consistency(voice, face),
            },
            details={
                "face found by": track.source,
                "read from the face": face.describe(),
                "read from the voice": voice.describe(),
            },
        )

    @cached_property
    def _face_classifier(self) -> FaceTraitClassifier:
        return FaceTraitClassifier.load()

    @cached_property
    def _voice_classifier(self) -> VoiceTraitClassifier:
        return VoiceTraitClassifier.load()
