"""How well the networks of our own predict what is true of rendered clips, and of the same clips corrupted. [ours]

Faces are found by the locator, as in use. Every benchmark returns rows of numbers by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from uniavgen.data.rendered import RENDERED_FPS, RenderedSample
from uniavgen.evaluation.corruption import SHIFTS_MS, shifted
from uniavgen.evaluation.statistics import auc
from uniavgen.evaluation.trait_grades import emotion_consistency, implausibility, timbre_consistency
from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_locator import FaceLocator
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.lip_sync import LipSyncEncoder, LipSyncScores, compare_streams
from uniavgen.perception.traits import (
    AGES,
    EMOTIONS,
    FaceTraitClassifier,
    Traits,
    VoiceTraitClassifier,
    age_class,
)

Numbers = Mapping[str, float]
CLOSE_MS = 40.0


def benchmark_face_locator(locator: FaceLocator, clips: Iterable[RenderedSample]) -> dict[str, Numbers]:
    """Returns the distance of the predicted centre from the true one and the ratio of sizes, in face sizes."""
    errors, sizes, missed = [], [], 0
    for clip in clips:
        truth = clip.face_track()
        try:
            track = FaceTrack.from_probabilities(locator.predict(clip.frames), RENDERED_FPS)
        except NotMeasured:
            missed += 1
            continue
        errors.append(float(np.median(np.linalg.norm(track.centres - truth.centres, axis=1) / truth.sizes)))
        sizes.append(float(np.median(track.sizes / truth.sizes)))
    count = len(errors) + missed
    row = {"clips": count, "found": len(errors) / max(count, 1)}
    if errors:
        row |= {"error": float(np.median(errors)), "worst": max(errors), "size": float(np.median(sizes))}
    return {"truth": row}


def benchmark_lip_sync(
    encoder: LipSyncEncoder, locator: FaceLocator, clips: Iterable[RenderedSample]
) -> dict[str, Numbers]:
    """Measures clips as they are, with sound shifted, of the next clip or noise, and with a frozen frame.

    Clips without a face are left out.
    """
    lips, frozen, sounds = [], [], []
    for clip in clips:
        try:
            track = FaceTrack.from_probabilities(locator.predict(clip.frames), RENDERED_FPS)
        except NotMeasured:
            continue
        still = np.repeat(clip.frames[:1], len(clip.frames), axis=0)
        lips.append(encoder.embed_video(clip.frames, RENDERED_FPS, track))
        frozen.append(encoder.embed_video(still, RENDERED_FPS, track))
        sounds.append(clip.speech_waveform)
    rng = np.random.default_rng(0)
    noise = [0.1 * rng.standard_normal(len(sound)).astype(np.float32) for sound in sounds]
    results = {
        "truth": _scores(encoder, lips, sounds),
        **{
            f"sound {shift:+.0f} ms": _scores(encoder, lips, [shifted(sound, shift) for sound in sounds])
            for shift in SHIFTS_MS
        },
        "sound of the next clip": _scores(encoder, lips, [*sounds[1:], sounds[0]]),
        "still picture": _scores(encoder, frozen, sounds),
        "noise for sound": _scores(encoder, lips, noise),
    }
    true_offsets = {f"sound {shift:+.0f} ms": -shift for shift in SHIFTS_MS}
    return {
        name: _lip_sync_row(scores, results["truth"], true_offsets.get(name, 0.0)) for name, scores in results.items()
    }


def _scores(
    encoder: LipSyncEncoder,
    lips: Sequence[Float[np.ndarray, "n d"]],
    sounds: Sequence[Float32[np.ndarray, " samples"]],
) -> list[LipSyncScores]:
    return [compare_streams(stream, encoder.embed_waveform(sound)) for stream, sound in zip(lips, sounds, strict=True)]


def _lip_sync_row(scores: Sequence[LipSyncScores], truth: Sequence[LipSyncScores], offset_ms: float) -> Numbers:
    errors = np.abs([each.offset_ms - offset_ms for each in scores])
    return {
        "clips": len(scores),
        "median_error_ms": float(np.median(errors)),
        "close": float((errors <= CLOSE_MS).mean()),
        "confidence": float(np.mean([each.confidence for each in scores])),
        "distance": float(np.mean([each.distance for each in scores])),
        "auc_confidence": auc([each.confidence for each in truth], [each.confidence for each in scores]),
        "auc_at_zero": auc(
            [each.confidence_unshifted for each in truth], [each.confidence_unshifted for each in scores]
        ),
    }


@dataclass(frozen=True, kw_only=True)
class _TruePerson:
    """The true traits of who speaks in a clip."""

    male: bool
    age: int
    """Index into AGES."""
    emotion: str

    @classmethod
    def of(cls, clip: RenderedSample) -> "_TruePerson":
        facts = clip.sample.facts
        return cls(male=facts["gender"] == "male", age=age_class(float(facts["age"])), emotion=facts["mood"])

    def plainly_differs_from(self, other: "_TruePerson") -> bool:
        """Returns whether one is a child and the other is none, or both are grown up and of different gender."""
        if (self.age == 0) != (other.age == 0):
            return True
        return self.age > 0 and other.age > 0 and self.male != other.male


@dataclass(frozen=True, kw_only=True)
class _Prediction:
    """Predicted traits of a clip, and the true ones."""

    truth: _TruePerson
    face: Traits
    voice: Traits


def benchmark_traits(
    faces: FaceTraitClassifier, voices: VoiceTraitClassifier, locator: FaceLocator, clips: Iterable[RenderedSample]
) -> dict[str, Numbers]:
    """Grades every clip, and every voice with every face that it does not fit; and the accuracy of both networks."""
    people: list[_Prediction] = []
    for clip in clips:
        try:
            track = FaceTrack.from_probabilities(locator.predict(clip.frames), RENDERED_FPS)
        except NotMeasured:
            continue
        voice = voices.predict(clip.speech_waveform)
        face = faces.predict(clip.frames, RENDERED_FPS, track)
        people.append(_Prediction(truth=_TruePerson.of(clip), face=face, voice=voice))
    matching = [(person, person) for person in people]
    pairs = [(a, b) for a in people for b in people]
    other_people = [(a, b) for a, b in pairs if a.truth.plainly_differs_from(b.truth)]
    other_emotions = [(a, b) for a, b in pairs if a.truth.emotion != b.truth.emotion]
    truths = [person.truth for person in people]
    return {
        "timbre": _grade_row(matching, other_people, lambda a, b: timbre_consistency(a.voice, b.face)),
        "emotion": _grade_row(matching, other_emotions, lambda a, b: emotion_consistency(a.voice, b.face)),
        "face is right": _accuracies([person.face for person in people], truths),
        "voice is right": _accuracies([person.voice for person in people], truths),
    }


def _grade_row(
    matching: Sequence[tuple[_Prediction, _Prediction]],
    mismatched: Sequence[tuple[_Prediction, _Prediction]],
    grade: Callable[[_Prediction, _Prediction], float],
) -> Numbers:
    grades, mismatched_grades = ([grade(a, b) for a, b in pairs] for pairs in (matching, mismatched))
    return {
        "clips": len(grades),
        "truth": float(np.mean(grades)),
        "mismatched": float(np.mean(mismatched_grades)),
        "pairs": len(mismatched_grades),
        "auc": auc(grades, mismatched_grades),
    }


def benchmark_voice_traits(voices: VoiceTraitClassifier, clips: Iterable[RenderedSample]) -> dict[str, Numbers]:
    """Returns the accuracy of a voice classifier, and how often true and other classes are plausible."""
    predictions = [(voices.predict(clip.speech_waveform), _TruePerson.of(clip)) for clip in clips]
    ages = [(implausibility(traits.ages) == 0, person.age) for traits, person in predictions]
    emotions = [
        (implausibility(traits.emotions) == 0, EMOTIONS.index(person.emotion)) for traits, person in predictions
    ]
    return {
        "voice is right": _accuracies([traits for traits, _ in predictions], [person for _, person in predictions]),
        "age may be": _plausible_shares(ages),
        "emotion may be": _plausible_shares(emotions),
    }


def _plausible_shares(predictions: Sequence[tuple[Bool[np.ndarray, " k"], int]]) -> Numbers:
    others = [(plausible.sum() - plausible[true]) / (len(plausible) - 1) for plausible, true in predictions]
    return {
        "true": float(np.mean([plausible[true] for plausible, true in predictions])),
        "others": float(np.mean(others)),
    }


def _accuracies(predictions: Sequence[Traits], truths: Sequence[_TruePerson]) -> Numbers:
    pairs = list(zip(predictions, truths, strict=True))
    grown = [(traits.male > 0.5) == person.male for traits, person in pairs if person.age > 0]
    emotions = [traits.emotions.reshape(-1, len(EMOTIONS)).mean(axis=0).argmax() for traits in predictions]
    return {
        "gender of grown people": float(np.mean(grown)),
        **{
            f"{name} or not": float(
                np.mean([(int(traits.ages.argmax()) == age) == (person.age == age) for traits, person in pairs])
            )
            for age, name in enumerate(AGES)
        },
        "emotion": float(
            np.mean([EMOTIONS[int(best)] == person.emotion for best, person in zip(emotions, truths, strict=True)])
        ),
    }
