"""Who a person is: gender, age, ancestry and the shape of the face, as weights over the MakeHuman targets."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from uniavgen.synth.head_data import HeadData

GENDERS = ("female", "male")
ANCESTRIES = ("african", "asian", "caucasian")
_CHILD, _YOUNG, _OLD = 10.0, 25.0, 80.0
"""Years at which MakeHuman's age targets stand. [ours]"""
_OPPOSITES = (
    ("incr", "decr"),
    ("up", "down"),
    ("out", "in"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("uncompress", "compress"),
)
_SPREAD = {
    "head": 0.22,
    "mouth": 0.2,
    "nose": 0.3,
    "chin": 0.3,
    "cheek": 0.3,
    "forehead": 0.4,
    "eyebrows": 0.25,
    "eyes": 0.28,
    "ears": 0.4,
    "neck": 0.25,
}
"""Standard deviation of a feature's weight per area. [ours]"""
_LEFT_ALONE = ("trans", "measure", "head-age", "head-back", "cleft", "eye-scale", "epicanthus")
"""Features that move the head, belong to age or ancestry, or look broken when drawn freely."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One face; the same for all clips of a person."""

    gender: str
    age: float
    """Years."""
    ancestry: Float[np.ndarray, " 3"]
    """Shares of ANCESTRIES, summing to 1."""
    weights: Float[np.ndarray, " k"]
    """One weight a target of the head data."""


@lru_cache(maxsize=4)
def _features(names: tuple[str, ...]) -> tuple[tuple[float, tuple[str, ...], tuple[str, ...]], ...]:
    """Returns (spread, targets of positive weights, targets of negative weights) of each feature of a face.

    Targets of the left half are joined with those of the right, so that faces stay symmetric.
    """
    available, features = set(names), []
    for name in names:
        area, _, rest = name.partition("/")
        if area not in _SPREAD or rest.startswith("r-") or any(word in rest for word in _LEFT_ALONE):
            continue
        pair = next((pair for pair in _OPPOSITES if rest.endswith(f"-{pair[0]}")), None)
        if pair is None and any(rest.endswith(f"-{low}") for _, low in _OPPOSITES):
            continue
        negative = name if pair is None else f"{name.removesuffix(pair[0])}{pair[1]}"
        sides = [(name, negative if pair else None)]
        if rest.startswith("l-"):
            sides.append((name.replace("/l-", "/r-"), negative.replace("/l-", "/r-") if pair else None))
        plus = tuple(p for p, _ in sides if p in available)
        minus = tuple(m for _, m in sides if m is not None and m in available)
        features.append((_SPREAD[area], plus, minus))
    return tuple(features)


def _age_shares(age: float) -> tuple[tuple[str, float], ...]:
    if age < _YOUNG:
        grown = float(np.clip((age - _CHILD) / (_YOUNG - _CHILD), 0, 1))
        return ("child", 1 - grown), ("young", grown)
    aged = float(np.clip((age - _YOUNG) / (_OLD - _YOUNG), 0, 1))
    return ("young", 1 - aged), ("old", aged)


def sample_identity(data: HeadData, rng: np.random.Generator, gender: str, age: float) -> Identity:
    """Returns a face of the given gender and age in years; everything else is drawn from `rng`."""
    column = {name: i for i, name in enumerate(data.target_names)}
    weights = np.zeros(len(column), np.float32)
    ancestry = rng.dirichlet([0.35] * len(ANCESTRIES))
    build = rng.choice(["averageweight", "maxweight", "minweight"], p=[0.6, 0.2, 0.2])
    build_share = rng.uniform(0.3, 0.9)
    for period, share in _age_shares(age):
        body = f"universal-{gender}-{period}-averagemuscle-"
        weights[column[f"{body}averageweight"]] += share * (1 - build_share)
        weights[column[f"{body}{build}"]] += share * build_share
        for name, part in zip(ANCESTRIES, ancestry, strict=True):
            weights[column[f"{name}-{gender}-{period}"]] += share * part
    for spread, plus, minus in _features(data.target_names):
        weight = float(np.clip(rng.normal(0, spread), -0.8, 0.8))
        side = plus if weight > 0 else minus
        for name in side:
            weights[column[name]] += abs(weight) * (1.0 if minus else 0.7)
    wrinkled = max(0.0, (age - 45) / 45)
    weights[column["head/head-age-incr"]] += min(1.0, wrinkled)
    return Identity(gender=gender, age=age, ancestry=ancestry.astype(np.float32), weights=weights)
