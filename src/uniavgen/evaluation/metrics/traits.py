"""Do voice and face belong to one person in one mood: two readers of our own and the paper's five grades. [ours]

Stands beside TC and EC, which the paper has a large model reader. See `evaluation.readers.traits` and `.rubric`.
"""

from collections.abc import Mapping
from functools import cached_property

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.readers.places import FacePlaces
from uniavgen.evaluation.readers.storing import shipped
from uniavgen.evaluation.readers.traits import FaceReader, VoiceReader, emotion_consistency, timbre_consistency

FACE, VOICE = "face-reader", "voice-reader"
COLUMNS = (
    Column(
        name="timbre_consistency",
        description="gender and age of the voice against those of the face, by readers of our own, on the paper's five "
        "grades; 0 to 1",
        better=Better.HIGHER,
    ),
    Column(
        name="emotion_consistency",
        description="share of the frames whose emotion is the voice's, by readers of our own, on the paper's five "
        "grades; 0 to 1; knows the synthetic world only",
        better=Better.HIGHER,
    ),
)


class TraitConsistency:
    """What voice and face say of a person."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, places: FacePlaces, face: Weights) -> None:
        """`face`: a face reader; the voice reader is in the package."""
        self._places, self._face = places, face

    @property
    def networks(self) -> Mapping[str, Weights]:
        voice = shipped("voice_reader")
        return {**self._places.networks, FACE: self._face, VOICE: Weights(label=voice.name, path=voice)}

    @cached_property
    def _readers(self) -> tuple[FaceReader, VoiceReader]:
        return FaceReader.load(self._face.path), VoiceReader.load()

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:  # noqa: ARG002
        if clip.waveform is None:
            raise NotMeasured("the clip has no sound track")
        if clip.is_silent:
            raise NotMeasured("the clip is silent")
        where = self._places.find(clip)
        of_face, of_voice = self._readers
        face, voice = of_face.read(clip.frames, float(clip.fps), where), of_voice.read(clip.waveform)
        return Measurement(
            scores={
                "timbre_consistency": timbre_consistency(voice, face),
                "emotion_consistency": emotion_consistency(voice, face),
            },
            details={"read from the face": face.say(), "read from the voice": voice.say()},
        )
