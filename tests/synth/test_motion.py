"""Mouth shapes follow the phones; faces blink, nod and show their mood. No assets needed."""

import numpy as np
import pytest

from uniavgen.synth.appearance import sample_style
from uniavgen.synth.arkit import ARKIT, INDEX
from uniavgen.synth.captions import build_caption, mood_words
from uniavgen.synth.identity import ANCESTRIES, Identity
from uniavgen.synth.moods import ANGRY, HAPPY, MOODS, NEUTRAL, SAD
from uniavgen.synth.motion import perform
from uniavgen.synth.visemes import VISEMES, speech_shapes

FPS = 16.0


def at(shapes: np.ndarray, name: str, second: float) -> float:
    return float(shapes[int(second * FPS), INDEX[name]])


def test_arkit_has_52_shapes() -> None:
    assert len(ARKIT) == len(set(ARKIT)) == 52
    assert list(ARKIT) == sorted(ARKIT)


def test_open_vowels_open_and_closures_close() -> None:
    phones = [("ɑ", 0.5, 0.9), ("b", 0.9, 0.97), ("ɑ", 0.97, 1.3), ("u", 1.3, 1.7)]
    shapes = speech_shapes(phones, 40, FPS)
    assert at(shapes, "jawOpen", 0.7) > 0.7
    assert at(shapes, "jawOpen", 0.93) < 0.3
    assert at(shapes, "mouthPucker", 1.5) > 0.6
    assert at(shapes, "mouthPucker", 0.7) < 0.1
    assert shapes[0].max() < 0.02
    assert shapes[-1].max() < 0.05


def test_rounding_is_anticipated() -> None:
    """The lips round for the vowel while the consonant before it is still spoken."""
    before_u = speech_shapes([("t", 0.4, 0.5), ("u", 0.5, 0.8)], 20, FPS)
    before_a = speech_shapes([("t", 0.4, 0.5), ("ɑ", 0.5, 0.8)], 20, FPS)
    assert at(before_u, "mouthPucker", 0.46) > at(before_a, "mouthPucker", 0.46) + 0.1


def test_stress_marks_lengthen_and_gaps_between_words_do_not_close() -> None:
    marked = speech_shapes([("ɑ", 0.2, 0.4), ("ˈ", 0.4, 0.5)], 16, FPS)
    plain = speech_shapes([("ɑ", 0.2, 0.5)], 16, FPS)
    np.testing.assert_allclose(marked, plain)
    gap = speech_shapes([("ɑ", 0.2, 0.5), (" ", 0.5, 0.54), ("ɑ", 0.54, 0.9)], 20, FPS)
    assert gap[4:13, INDEX["jawOpen"]].min() > 0.5


def test_silence_is_a_closed_mouth() -> None:
    assert not speech_shapes([], 10, FPS).any()


def test_phone_symbols_of_all_sources_have_a_shape() -> None:
    for symbol in "pbmfvθðtdnszɾlʃʒʧʤkɡŋhjɹwuʊoɔɒɑaæʌəᵊᵻɜɛiɪ":
        assert symbol in VISEMES


@pytest.mark.parametrize(("mood", "shape"), [(HAPPY, "mouthSmileLeft"), (ANGRY, "browDownLeft"), (SAD, "browInnerUp")])
def test_moods_show_in_the_face_by_their_strength(mood, shape: str) -> None:
    means = [
        perform([], m, s, 81, FPS, np.random.default_rng(4)).arkit[:, INDEX[shape]].mean()
        for m, s in ((NEUTRAL, 0.0), (mood, 0.55), (mood, 1.0))
    ]
    assert means[0] + 0.1 < means[1]
    assert means[1] + 0.1 < means[2]


def test_performances_are_fixed_by_their_generator_and_stay_in_bounds() -> None:
    phones = [("ˈ", 0.5, 0.6), ("ɑ", 0.6, 0.9)]
    first, second = (perform(phones, HAPPY, 1.0, 81, FPS, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(first.arkit, second.arkit)
    np.testing.assert_array_equal(first.rotation, second.rotation)
    assert first.arkit.min() >= 0
    assert first.arkit.max() <= 1
    assert np.abs(first.rotation).max() < 0.8


def test_blinks_close_both_eyes() -> None:
    for seed in range(5):
        arkit = perform([], NEUTRAL, 0.0, 81, FPS, np.random.default_rng(seed)).arkit
        left, right = arkit[:, INDEX["eyeBlinkLeft"]], arkit[:, INDEX["eyeBlinkRight"]]
        np.testing.assert_array_equal(left, right)
        assert left.max() > 0.9
        assert np.mean(left > 0.5) < 0.25


@pytest.mark.parametrize("gender", ["female", "male"])
@pytest.mark.parametrize("age", [10.0, 25.0, 45.0, 75.0])
def test_captions_say_gender_age_and_mood(gender: str, age: float) -> None:
    identity = Identity(
        gender=gender,
        age=age,
        ancestry=np.full(len(ANCESTRIES), 1 / 3, np.float32),
        weights=np.zeros(2, np.float32),
    )
    style = sample_style(identity, np.random.default_rng(1))
    noun = {("female", True): "girl", ("male", True): "boy", ("female", False): "woman", ("male", False): " man"}
    for seed in range(6):
        for mood in MOODS:
            text = build_caption(identity, style, mood, 1.0, "garden", np.random.default_rng(seed))
            assert noun[gender, age < 17] in text
            assert mood_words(mood, 1.0) in text
            assert ("old" in text.split()) == (age > 62)
            assert len(text.split()) < 40
            assert text[0].isupper()
            assert text.endswith(".")
