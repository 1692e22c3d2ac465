"""The readers judged: what they say of rendered clips whose truth is known, and of the same clips spoilt. [ours]

Faces are found by the locator, as in use. Every trial gives a row of numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.readers.locator import FaceLocator, FacePath
from uniavgen.evaluation.readers.rendered import FPS, at_speech_rate, true_path
from uniavgen.evaluation.readers.sync import Agreement, SyncReader, agreement
from uniavgen.evaluation.readers.traits import (
    AGES,
    EMOTIONS,
    FaceReader,
    Traits,
    VoiceReader,
    age_of,
    doubt,
    emotion_consistency,
    timbre_consistency,
)
from uniavgen.evaluation.spoiling import SHIFTS_MS, shifted
from uniavgen.evaluation.statistics import auc
from uniavgen.evaluation.truth import TruthClip

Row = Mapping[str, float]
CLOSE_MS = 40.0


def locator_trials(locator: FaceLocator, clips: Iterator[TruthClip]) -> dict[str, Row]:
    """Distance of the found middle from the true one, and how much larger the face is taken, in face sizes."""
    errors, sizes, missed = [], [], 0
    for clip in clips:
        truth = true_path(clip)
        try:
            found = FacePath.of(locator.mark(clip.frames), FPS)
        except NotMeasured:
            missed += 1
            continue
        errors.append(float(np.median(np.linalg.norm(found.centres - truth.centres, axis=1) / truth.sizes)))
        sizes.append(float(np.median(found.sizes / truth.sizes)))
    row = {"clips": len(errors) + missed, "found": len(errors) / max(len(errors) + missed, 1)}
    if errors:
        row |= {"error": float(np.median(errors)), "worst": max(errors), "size": float(np.median(sizes))}
    return {"truth": row}


def sync_trials(reader: SyncReader, locator: FaceLocator, clips: Iterator[TruthClip]) -> dict[str, Row]:
    """Truth; sound shifted, of the next clip, or noise; a still picture. Clips without a face are left out."""
    seen, frozen, sounds = [], [], []
    for clip in clips:
        try:
            where = FacePath.of(locator.mark(clip.frames), FPS)
        except NotMeasured:
            continue
        seen.append(reader.watch(clip.frames, FPS, where))
        frozen.append(reader.watch(np.repeat(clip.frames[:1], len(clip.frames), axis=0), FPS, where))
        sounds.append(at_speech_rate(clip.sample.waveform))
    rng = np.random.default_rng(0)
    noise = [0.1 * rng.standard_normal(len(sound)).astype(np.float32) for sound in sounds]
    found = {
        "truth": _agreements(reader, seen, sounds),
        **{
            f"sound {shift:+.0f} ms": _agreements(reader, seen, [shifted(sound, shift) for sound in sounds])
            for shift in SHIFTS_MS
        },
        "sound of the next clip": _agreements(reader, seen, [*sounds[1:], sounds[0]]),
        "still picture": _agreements(reader, frozen, sounds),
        "noise for sound": _agreements(reader, seen, noise),
    }
    truth, wanted = found["truth"], {f"sound {shift:+.0f} ms": -shift for shift in SHIFTS_MS}
    return {name: _sync_row(rows, truth, wanted.get(name, 0.0)) for name, rows in found.items()}


def _agreements(
    reader: SyncReader, seen: Sequence[Float[np.ndarray, "n d"]], sounds: Sequence[Float32[np.ndarray, " samples"]]
) -> list[Agreement]:
    return [agreement(lips, reader.listen(sound)) for lips, sound in zip(seen, sounds, strict=True)]


def _sync_row(found: Sequence[Agreement], truth: Sequence[Agreement], offset_ms: float) -> Row:
    errors = np.abs([each.offset_ms - offset_ms for each in found])
    return {
        "clips": len(found),
        "median_error_ms": float(np.median(errors)),
        "close": float((errors <= CLOSE_MS).mean()),
        "confidence": float(np.mean([each.confidence for each in found])),
        "distance": float(np.mean([each.distance for each in found])),
        "auc_confidence": auc([each.confidence for each in truth], [each.confidence for each in found]),
        "auc_at_zero": auc([each.at_zero for each in truth], [each.at_zero for each in found]),
    }


@dataclass(frozen=True, kw_only=True)
class _Known:
    male: bool
    age: int
    emotion: str


@dataclass(frozen=True, kw_only=True)
class _Person(_Known):
    face: Traits
    voice: Traits

    def blatantly_unlike(self, other: "_Person") -> bool:
        """A child's voice for someone else, or the wrong gender."""
        if (self.age == 0) != (other.age == 0):
            return True
        return self.age > 0 and other.age > 0 and self.male != other.male


def trait_trials(
    faces: FaceReader, voices: VoiceReader, locator: FaceLocator, clips: Iterator[TruthClip]
) -> dict[str, Row]:
    """Truth, and every voice with every face that it does not fit; how often each reader is right."""
    people = []
    for clip in clips:
        try:
            where = FacePath.of(locator.mark(clip.frames), FPS)
        except NotMeasured:
            continue
        sound, who = at_speech_rate(clip.sample.waveform), _known(clip)
        voice = voices.read(sound)
        people.append(
            _Person(
                male=who.male,
                age=who.age,
                emotion=who.emotion,
                face=faces.read(clip.frames, FPS, where),
                voice=voice,
            )
        )
    pairs = [(a, b) for a in people for b in people]
    unlike = [(a, b) for a, b in pairs if a.blatantly_unlike(b)]
    other_mood = [(a, b) for a, b in pairs if a.emotion != b.emotion]
    own = [(person, person) for person in people]
    return {
        "timbre": _trait_row(own, unlike, lambda a, b: timbre_consistency(a.voice, b.face)),
        "emotion": _trait_row(own, other_mood, lambda a, b: emotion_consistency(a.voice, b.face)),
        "face is right": _right([person.face for person in people], people),
        "voice is right": _right([person.voice for person in people], people),
    }


def _trait_row(
    own: Sequence[tuple[_Person, _Person]],
    other: Sequence[tuple[_Person, _Person]],
    grade: Callable[[_Person, _Person], float],
) -> Row:
    truth, spoilt = ([grade(a, b) for a, b in pairs] for pairs in (own, other))
    return {
        "clips": len(truth),
        "truth": float(np.mean(truth)),
        "mismatched": float(np.mean(spoilt)),
        "pairs": len(spoilt),
        "auc": auc(truth, spoilt),
    }


def voice_trials(voices: VoiceReader, clips: Iterator[TruthClip]) -> dict[str, Row]:
    """How often a voice reader is right, and how much it rules out."""
    heard = [(voices.read(at_speech_rate(clip.sample.waveform)), _known(clip)) for clip in clips]
    ages = [(doubt(traits.ages) == 0, who.age) for traits, who in heard]
    emotions = [(doubt(traits.emotions) == 0, EMOTIONS.index(who.emotion)) for traits, who in heard]
    return {
        "voice is right": _right([traits for traits, _ in heard], [who for _, who in heard]),
        "age may be": _sets(ages),
        "emotion may be": _sets(emotions),
    }


def _sets(found: Sequence[tuple[np.ndarray, int]]) -> Row:
    return {
        "true": float(np.mean([may_be[place] for may_be, place in found])),
        "others": float(np.mean([(may_be.sum() - may_be[place]) / (len(may_be) - 1) for may_be, place in found])),
    }


def _known(clip: TruthClip) -> _Known:
    facts = clip.sample.facts
    return _Known(male=facts["gender"] == "male", age=age_of(float(facts["age"])), emotion=facts["mood"])


def _right(found: Sequence[Traits], people: Sequence[_Known]) -> Row:
    grown = [(traits, person) for traits, person in zip(found, people, strict=True) if person.age > 0]
    emotions = [traits.emotions.reshape(-1, len(EMOTIONS)).mean(axis=0) for traits in found]
    return {
        "gender of grown people": float(np.mean([(traits.male > 0.5) == person.male for traits, person in grown])),
        **{
            f"{name} or not": float(
                np.mean(
                    [
                        (int(traits.ages.argmax()) == place) == (person.age == place)
                        for traits, person in zip(found, people, strict=True)
                    ]
                )
            )
            for place, name in enumerate(AGES)
        },
        "emotion": float(
            np.mean(
                [EMOTIONS[int(each.argmax())] == person.emotion for each, person in zip(emotions, people, strict=True)]
            )
        ),
    }
