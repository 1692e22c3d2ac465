"""Everyday sentences out of a small grammar with a wide vocabulary.

Sentence `number` of a seed is always the same. Words and sentence patterns stand in `words.txt` and `patterns.txt`.
"""

from functools import cache
from pathlib import Path

import numpy as np

_LONGEST = 64
"""Letters; what a voice says in a clip of five seconds."""
_PLURALS = {
    "goose": "geese",
    "mouse": "mice",
    "sheep": "sheep",
    "wolf": "wolves",
    "knife": "knives",
    "scarf": "scarves",
}
_OWNERS = ("my", "her", "his", "our", "their", "the", "your")


@cache
def _words() -> dict[str, tuple[str, ...]]:
    kinds: dict[str, tuple[str, ...]] = {}
    for block in (Path(__file__).parent / "words.txt").read_text().split("[")[1:]:
        kind, _, words = block.partition("]")
        kinds[kind] = tuple(word.strip() for word in words.replace("\n", " ").split(",") if word.strip())
    return kinds


@cache
def _patterns() -> tuple[str, ...]:
    return tuple((Path(__file__).parent / "patterns.txt").read_text().splitlines())


def plural(noun: str) -> str:
    """More than one of a noun."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"


def with_article(words: str) -> str:
    """Words with `a` or `an` before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


class _Draw:
    """What stands for a pattern's `{...}`: a kind of word, `who`, `noun`, `a X`, `many X`, or one of `X|Y|Z`."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __getitem__(self, field: str) -> str:
        if field.startswith("a "):
            return with_article(self[field[2:]])
        if field.startswith("many "):
            return plural(self[field[5:]])
        if field == "noun":
            return f"{self['looks']} {self['things']}" if self._rng.random() < 0.6 else self["things"]
        if field == "who":
            return self["names"] if self._rng.random() < 0.5 else f"{self._among(_OWNERS)} {self['people']}"
        return self._among(tuple(field.split("|")) if "|" in field else _words()[field])

    def _among(self, words: tuple[str, ...]) -> str:
        return words[int(self._rng.integers(len(words)))]


def sentence(seed: int, number: int) -> str:
    """Sentence `number` of a seed: at most 64 letters, the first one large, with its stop."""
    rng = np.random.default_rng([seed, number, 4711])
    while True:
        pattern = _patterns()[int(rng.integers(len(_patterns())))]
        text = pattern.format_map(_Draw(rng))
        if len(text) <= _LONGEST:
            return text[0].upper() + text[1:]
