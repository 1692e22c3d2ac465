"""Captions: one sentence that says who speaks, how they look, in which mood, and where."""

import numpy as np

from uniavgen.synth.appearance import Style
from uniavgen.synth.identity import Identity
from uniavgen.synth.moods import STRENGTHS, Mood

_HAIR = {
    "short": "short {} hair",
    "crew": "a {} crew cut",
    "curly": "curly {} hair",
    "bob": "a {} bob",
    "long": "long {} hair",
    "bun": "{} hair in a bun",
    "bald": "a bald head",
    "receding": "thinning {} hair",
}
_PLACES = {
    "studio": "in a studio",
    "wall": "before a brick wall",
    "room": "in a living room",
    "street": "in a street",
    "garden": "in a garden",
    "pattern": "before a patterned wall",
}


def person_words(identity: Identity) -> str:
    """Returns 'a girl', 'a young man', 'a woman', 'an old man', ... by gender and age."""
    female = identity.gender == "female"
    if identity.age < 17:
        return "a girl" if female else "a boy"
    adult = "woman" if female else "man"
    if identity.age < 32:
        return f"a young {adult}"
    return f"an old {adult}" if identity.age > 62 else f"a {adult}"


def mood_words(mood: Mood, strength: float) -> str:
    """Returns how someone speaks in a mood of this strength."""
    return mood.adverbs[int(strength > sum(STRENGTHS) / 2)]


def build_caption(
    identity: Identity, style: Style, mood: Mood, strength: float, place: str, rng: np.random.Generator
) -> str:
    """Returns a caption with gender, age and mood; `rng` draws further details and their order."""
    details = [_HAIR[style.hair_style].format(style.hair_colour)]
    if style.glasses != "none":
        details.append("glasses")
    if style.beard > 0.5:
        details.append("a beard")
    looks = f" with {' and '.join(details)}" if rng.random() < 0.8 else ""
    where = f" {_PLACES[place]}" if rng.random() < 0.7 else ""
    who, how = person_words(identity), mood_words(mood, strength)
    match int(rng.integers(3)):
        case 0:
            words = f"{who}{looks} speaks {how}{where}."
        case 1:
            words = f"{who}{looks} talks {how} to the camera{where}."
        case _:
            words = f"{where.strip()}, {who}{looks} speaks {how}." if where else f"{who}{looks} is speaking {how}."
    return words[0].upper() + words[1:]
