"""The mouth on the mesh does what the phones ask of it, in every mood and face."""

from itertools import product

import numpy as np
import pytest

from uniavgen.synth.head import HeadMesh
from uniavgen.synth.head_data import HeadData
from uniavgen.synth.identity import sample_identity
from uniavgen.synth.moods import MOODS
from uniavgen.synth.motion import perform
from uniavgen.synth.visemes import Phone

FPS = 16.0
SHUT, NARROW, WIDE = "pbm", "tdszniɪu", "ɑæɔ"


def babble(rng: np.random.Generator) -> list[Phone]:
    """Five seconds of syllables at the pace of speech: a consonant, a vowel, now and then a word's end."""
    phones, time = [], 0.3
    while time < 4.6:
        for symbols, low, high in (("pbmtdszn", 0.06, 0.1), ("ɑæɔiɪu", 0.09, 0.17), (" ", 0.0, 0.05)):
            end = time + rng.uniform(low, high)
            phones.append((str(rng.choice(list(symbols))), time, end))
            time = end
    return phones


@pytest.fixture(scope="module")
def openings(head_data: HeadData) -> dict[str, np.ndarray]:
    """Mouth opening at phones of each kind: where it is smallest in a closure, its mean elsewhere."""
    by_kind: dict[str, list[float]] = {SHUT: [], NARROW: [], WIDE: []}
    people = [("female", 9.0), ("male", 30.0), ("female", 50.0), ("male", 75.0)]
    for number, ((gender, age), mood) in enumerate(product(people, MOODS)):
        rng = np.random.default_rng(number)
        head, phones = HeadMesh(head_data, sample_identity(head_data, rng, gender, age)), babble(rng)
        opening = head.mouth_opening(perform(phones, mood, 1.0, 81, FPS, rng).arkit)
        middle = (np.arange(81) + 0.5) / FPS
        for symbol, start, end in phones:
            kind = next((kind for kind in by_kind if symbol in kind), None)
            # A frame shows a closure whose middle it holds.
            inside = np.abs(middle - (start + end) / 2) <= max((end - start) / 2, 0.5 / FPS)
            if kind is not None:
                by_kind[kind].append(float((np.min if kind is SHUT else np.mean)(opening[inside])))
    return {kind: np.array(values) for kind, values in by_kind.items()}


def test_lips_meet_for_p_b_and_m(openings: dict[str, np.ndarray]) -> None:
    assert np.mean(openings[SHUT] < 0.03) > 0.93


def test_open_vowels_are_wider_than_narrow_sounds_and_these_than_closures(openings: dict[str, np.ndarray]) -> None:
    def beats(one: str, other: str) -> float:
        """Share of pairs in which the one opens wider."""
        return float(np.mean(openings[one][:, None] > openings[other][None]))

    assert beats(WIDE, SHUT) > 0.98
    assert beats(NARROW, SHUT) > 0.9
    assert beats(WIDE, NARROW) > 0.75
