"""Everyday sentences out of a grammar with a wide vocabulary.

Sentence `number` of a seed is always the same. Words and patterns stand in `words.txt` and `patterns.txt`. Half of all
sentences are talk; half are in the manner of the Harvard sentences [IEEE 297]: plain statements of about five
key words, which together hold all sounds of English. None is taken from the published lists.
"""

from functools import cache
from pathlib import Path

import numpy as np

_LONGEST = 64
"""Letters; what a voice says in a clip of five seconds."""
_PLURALS = {
    "buffalo": "buffalo",
    "child": "children",
    "deer": "deer",
    "goose": "geese",
    "moose": "moose",
    "mosquito": "mosquitoes",
    "mouse": "mice",
    "ox": "oxen",
    "reindeer": "reindeer",
    "salmon": "salmon",
    "scarf": "scarves",
    "sheep": "sheep",
    "trout": "trout",
}
_PLURAL_ENDINGS = (
    ("fish", "fish"), ("man", "men"), ("lf", "lves"), ("ife", "ives"),
    ("s", "ses"), ("x", "xes"), ("ch", "ches"), ("sh", "shes"),
)  # fmt: skip
_OWNERS = ("my", "her", "his", "our", "their", "the", "your")


def _blocks(name: str) -> dict[str, str]:
    """Returns the text under each `[heading]` of a file beside this one."""
    blocks = (Path(__file__).parent / name).read_text().split("[")[1:]
    return {kind: text for kind, _, text in (block.partition("]\n") for block in blocks)}


@cache
def _words() -> dict[str, tuple[str, ...]]:
    return {
        kind: tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())
        for kind, text in _blocks("words.txt").items()
    }


@cache
def _patterns() -> dict[str, tuple[str, ...]]:
    return {kind: tuple(text.splitlines()) for kind, text in _blocks("patterns.txt").items()}


def plural(noun: str) -> str:
    """Returns the plural of a noun."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    for ending, many in _PLURAL_ENDINGS:
        if noun.endswith(ending):
            return noun.removesuffix(ending) + many
    return f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"


def with_article(words: str) -> str:
    """Returns words with `a` or `an` before them."""
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


def sentence(seed: int, number: int, manner: str | None = None) -> str:
    """Returns sentence `number` of a seed: at most 64 letters, the first one large, with its stop.

    manner: `talk` or `harvard`; None draws one of them.
    """
    rng = np.random.default_rng([seed, number, 4711])
    patterns = _patterns()[manner or str(rng.choice(sorted(_patterns())))]
    while True:
        text = patterns[int(rng.integers(len(patterns)))].format_map(_Draw(rng))
        if len(text) <= _LONGEST:
            return text[0].upper() + text[1:]
