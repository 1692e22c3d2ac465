"""What is read of a person from face and voice, and how it is compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from uniavgen.evaluation.trait_grades import emotion_consistency, timbre_consistency
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.perception.traits import (
    AGES,
    EMOTIONS,
    MOOD_CLASSES,
    NUM_LOGITS,
    FaceTraitClassifier,
    Traits,
    VoiceTraitClassifier,
    age_class,
    mood_class,
)
from uniavgen.perception.voice_features import PitchStatistics


def person(male: float, age: str, *emotions: str) -> Traits:
    """Somebody who is sure to be so; one emotion a frame."""
    kinds = np.stack([np.eye(len(MOOD_CLASSES))[mood_class(emotion, 1.0)] for emotion in emotions])
    return Traits(male=male, ages=np.eye(len(AGES))[AGES.index(age)], moods=kinds if len(emotions) > 1 else kinds[0])


def tone(hz: float, seconds: float = 1.0, peak: float = 0.5) -> np.ndarray:
    """Ten harmonics."""
    time = np.arange(round(seconds * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    wave = sum(np.cos(2 * np.pi * hz * k * time) / k for k in range(1, 11))
    return (peak * wave / np.abs(wave).max()).astype(np.float32)


def hissing(voice: np.ndarray) -> np.ndarray:
    """With some noise, so that no band is at the floor of the spectrum."""
    return voice + 0.03 * np.random.default_rng(0).standard_normal(len(voice)).astype(np.float32)


def test_timbre_of_the_same_and_of_other_people():
    man, woman, girl = person(1.0, "grown", "sad"), person(0.0, "grown", "sad"), person(0.0, "child", "sad")
    boy, grandfather = person(1.0, "child", "sad"), person(1.0, "old", "sad")
    assert timbre_consistency(man, man) == 1
    assert timbre_consistency(man, woman) == timbre_consistency(woman, girl) == 0
    assert timbre_consistency(girl, boy) == 1
    assert timbre_consistency(man, grandfather) == 0.75


def test_emotion_counts_frames():
    voice = person(1.0, "grown", "angry")
    for matching, grade in ((0, 0.0), (2, 0.25), (5, 0.5), (8, 0.75), (10, 1.0)):
        face = person(1.0, "grown", *["angry"] * matching, *["happy"] * (10 - matching))
        assert emotion_consistency(voice, face) == grade


def test_strength_does_not_change_the_emotion():
    kinds = np.zeros(len(MOOD_CLASSES))
    kinds[[mood_class("happy", 0.55), mood_class("happy", 1.0)]] = 0.5
    assert Traits(male=0.5, ages=np.full(3, 1 / 3), moods=kinds).emotions.tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(("years", "age"), [(9.0, "child"), (17.0, "grown"), (61.0, "grown"), (70.0, "old")])
def test_age_groups_cover_the_synthetic_ages(years, age):
    assert AGES[age_class(years)] == age


def test_moods_of_the_synthetic_world_have_an_emotion_each():
    from uniavgen.synth.moods import MOODS, STRENGTHS

    assert {mood.name for mood in MOODS} == set(EMOTIONS)
    emotions = {mood_class(mood.name, strength) for mood in MOODS for strength in (STRENGTHS if mood.face else (0.0,))}
    assert emotions == set(range(len(MOOD_CLASSES)))


@pytest.mark.parametrize("hz", [95.0, 140.0, 233.3, 380.0])
def test_pitch_equals_that_of_a_tone(hz):
    pitch = PitchStatistics.of(tone(hz))
    assert 200 * 2**pitch.octave == pytest.approx(hz, rel=0.005)
    assert pitch.range < 0.01


def test_pitch_of_silence_is_missing():
    assert PitchStatistics.of(np.zeros(8000, np.float32)).octave == 0
    assert PitchStatistics.of(np.zeros(100, np.float32)).octave == 0


def test_trait_readers_give_probabilities_and_are_deterministic():
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), np.uint8)
    where = FaceTrack(centres=np.full((20, 2), 0.5), sizes=np.full(20, 0.6))
    for traits, again in (
        [FaceTraitClassifier().eval().predict(frames, 16.0, where)] * 2,
        [VoiceTraitClassifier().eval().predict(tone(150, 1.5))] * 2,
    ):
        assert 0 <= traits.male <= 1
        assert traits.ages.sum() == pytest.approx(1)
        np.testing.assert_allclose(traits.emotions.sum(axis=-1), 1, atol=1e-5)
        assert traits.describe() == again.describe()
    assert FaceTraitClassifier().eval().predict(frames, 16.0, where).moods.shape == (10, len(MOOD_CLASSES))


def test_face_traits_share_gender_and_age_over_frames():
    answers = torch.zeros(4, NUM_LOGITS)
    answers[:2, 0] = 8
    assert Traits.from_logits(answers).male == pytest.approx(torch.tensor(4.0).sigmoid().item())


def test_voice_traits_do_not_depend_on_level():
    reader, voice = VoiceTraitClassifier.load(), hissing(tone(150, 2))
    soft, loud = (reader.predict(voice * np.float32(gain)) for gain in (0.5, 2.0))
    np.testing.assert_allclose(soft.moods, loud.moods, atol=1e-3)
    assert soft.male == pytest.approx(loud.male, abs=1e-3)


def test_voice_with_uncertain_traits_is_no_mismatch():
    kinds = np.zeros(len(MOOD_CLASSES))
    kinds[[mood_class("happy", 1.0), mood_class("angry", 0.55)]] = 0.6, 0.4
    voice = Traits(male=1.0, ages=np.array([0.0, 0.6, 0.4]), moods=kinds)
    for emotion, grade in (("happy", 1.0), ("angry", 1.0), ("sad", 0.0), ("neutral", 0.0)):
        assert emotion_consistency(voice, person(1.0, "old", emotion, emotion)) == grade
    assert [timbre_consistency(voice, person(1.0, age, "sad")) for age in AGES] == [0.0, 1.0, 1.0]


def test_face_with_uncertain_traits_is_no_mismatch():
    def face(child: float, male: float) -> Traits:
        return replace(person(male, "grown", "sad", "sad"), ages=np.array([child, 1 - child, 0.0]))

    girl, man = person(0.0, "child", "sad"), person(1.0, "grown", "sad")
    assert [timbre_consistency(girl, face(child, 0.0)) for child in (0.0, 0.5, 1.0)] == [0.0, 1.0, 1.0]
    grades = [timbre_consistency(girl, face(child, 0.0)) for child in np.linspace(0, 0.1, 40)]
    assert grades == sorted(grades)
    assert {0.0, 0.5, 0.75, 1.0} <= {*grades}
    assert [timbre_consistency(man, face(0.0, male)) for male in (0.0, 0.45, 1.0)] == [0.0, 1.0, 1.0]
    moods = np.stack([np.eye(len(MOOD_CLASSES))[mood_class(name, 1.0)] for name in ("happy", "angry")])
    torn = replace(man, moods=np.stack([moods.mean(axis=0), moods[0]]))
    assert [emotion_consistency(person(1.0, "grown", mood), torn) for mood in ("happy", "angry", "sad")] == [1, 0.5, 0]


def test_voice_traits_do_not_depend_on_surrounding_silence():
    reader = VoiceTraitClassifier.load()
    voice, silence = hissing(tone(150, 3)), np.zeros(SPEECH_RATE_HZ, np.float32)
    alone, around = reader.predict(voice), reader.predict(np.concatenate([silence, voice, silence]))
    np.testing.assert_allclose(alone.ages, around.ages, atol=0.15)
