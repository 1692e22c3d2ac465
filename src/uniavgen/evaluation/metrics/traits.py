"""Do voice and face belong to one person in one mood: two readers of our own and the paper's five grades. [ours]

Stands beside TC and EC, which the paper has a large model reader. See `evaluation.readers.traits` and `.rubric`.
"""

from collections.abc import Mapping
from functools import cached_property

from uniavgen.evaluation.clip import Clip, Kept
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement, NotMeasured
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.readers.places import FacePlaces
from uniavgen.evaluation.readers.storing import shipped
from uniavgen.evaluation.readers.traits import FaceReader, Traits, VoiceReader, emotion_consistency, timbre_consistency

FACE, VOICE = "face-reader", "voice-reader"
COLUMNS = (
    Column(
        name="timbre_consistency",
        description="gender and age of the voice against those of the face, by readers of our own, on the paper's five "
        "grades; 0 to 1; knows the synthetic world only",
        better=Better.HIGHER,
    ),
    Column(
        name="emotion_consistency",
        description="share of the frames whose emotion the voice may have, by readers of our own, on the paper's five "
        "grades, however loud the voice is; 0 to 1; knows the synthetic world only",
        better=Better.HIGHER,
    ),
)


class TraitConsistency:
    """What voice and face say of a person."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, places: FacePlaces) -> None:
        self._places = places
        self._seen = Kept[Traits]()

    @property
    def networks(self) -> Mapping[str, Weights]:
        paths = {FACE: shipped("face_reader"), VOICE: shipped("voice_reader")}
        found = {name: Weights(label=path.name, path=path) for name, path in paths.items()}
        return {**self._places.networks, **found}

    @cached_property
    def _readers(self) -> tuple[FaceReader, VoiceReader]:
        return FaceReader.load(), VoiceReader.load()

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        if clip.waveform is None:
            raise NotMeasured("the clip has no sound track")
        if clip.is_silent:
            raise NotMeasured("the clip is silent")
        place = self._places.find(clip)
        of_face, of_voice = self._readers
        face = self._seen.of(clip.frames, lambda: of_face.read(clip.frames, float(clip.fps), place.path))
        voice = of_voice.read(clip.waveform)
        scores = {
            "timbre_consistency": timbre_consistency(voice, face),
            "emotion_consistency": emotion_consistency(voice, face),
        }
        details = {
            "face found by": place.found_by,
            "read from the face": face.say(),
            "read from the voice": voice.say(),
        }
        return Measurement(scores=scores, details=details)
