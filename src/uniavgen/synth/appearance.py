"""How a person looks besides the shape of the face (`Style`), and the colours and light of one clip (`Look`).

Colours are linear-ish RGB in [0, 1]; directions are unit vectors in mesh space (y up, z towards the viewer).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uniavgen.synth.identity import ANCESTRIES, Identity

_SKIN = {"african": (0.35, 0.20, 0.13), "asian": (0.80, 0.60, 0.45), "caucasian": (0.92, 0.68, 0.54)}
_HAIR = {
    "black": (0.035, 0.03, 0.03),
    "dark brown": (0.10, 0.06, 0.04),
    "brown": (0.24, 0.14, 0.08),
    "blond": (0.66, 0.50, 0.26),
    "red": (0.45, 0.17, 0.06),
    "grey": (0.48, 0.48, 0.49),
    "white": (0.80, 0.79, 0.77),
}
_HAIR_CHANCE = {
    "african": {"black": 0.85, "dark brown": 0.15},
    "asian": {"black": 0.75, "dark brown": 0.25},
    "caucasian": {"dark brown": 0.3, "brown": 0.3, "blond": 0.3, "red": 0.1},
}
_IRIS = {
    "brown": (0.22, 0.11, 0.05),
    "blue": (0.25, 0.42, 0.62),
    "green": (0.24, 0.40, 0.22),
    "grey": (0.38, 0.42, 0.45),
}
_FRAMES = np.array([[0.03, 0.03, 0.03], [0.3, 0.15, 0.06], [0.5, 0.08, 0.1], [0.1, 0.15, 0.35]], np.float32)
_HAIR_STYLES = {
    "female": {"short": 0.14, "bob": 0.25, "long": 0.37, "bun": 0.12, "curly": 0.12},
    "male": {"short": 0.5, "crew": 0.2, "curly": 0.1, "bald": 0.08, "long": 0.05, "receding": 0.07},
}
CLOTHES = ("crew", "vneck", "turtleneck", "stripes", "collar")


@dataclass(frozen=True, kw_only=True)
class Style:
    """What belongs to a person in every clip."""

    skin: Float[np.ndarray, " 3"]
    lips: Float[np.ndarray, " 3"]
    hair: Float[np.ndarray, " 3"]
    hair_colour: str
    hair_style: str
    hair_length: float
    """0 to 1 inside the style."""
    fringe: float
    """How far the hair comes down the forehead, 0 to 1."""
    parting: float
    """-1 to 1: where the hair parts."""
    iris: Float[np.ndarray, " 3"]
    iris_colour: str
    brows: float
    """Strength of the eyebrows, 0.5 to 1.2."""
    beard: float
    """0 none, 0.35 stubble, 1 full."""
    glasses: str
    """none, round or square."""
    frame: Float[np.ndarray, " 3"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything the head's shader asks for, constant over a clip. Field names are the shader's uniforms."""

    skin: Float[np.ndarray, " 3"]
    lips: Float[np.ndarray, " 3"]
    hair: Float[np.ndarray, " 3"]
    iris: Float[np.ndarray, " 3"]
    frame: Float[np.ndarray, " 3"]
    cloth: Float[np.ndarray, " 3"]
    cloth_second: Float[np.ndarray, " 3"]
    cloth_kind: int
    brows: float
    beard: float
    fringe: float
    parting: float
    hairline: float
    """1 hair covers the scalp, 0 bald; between, it recedes."""
    curls: float
    light: Float[np.ndarray, " 3"]
    """Direction to the main light."""
    light_colour: Float[np.ndarray, " 3"]
    ambient: Float[np.ndarray, " 3"]
    rim: Float[np.ndarray, " 3"]
    seed: float


def sample_style(identity: Identity, rng: np.random.Generator) -> Style:
    """Draws skin, hair, eyes and glasses that fit an identity."""
    skin = sum(share * np.array(_SKIN[name]) for name, share in zip(ANCESTRIES, identity.ancestry, strict=True))
    skin = skin * rng.uniform(0.85, 1.08) * rng.normal(1, [0.02, 0.015, 0.03])
    wears_makeup = identity.gender == "female" and identity.age > 16 and rng.random() < 0.5
    lips = skin * [0.92, 0.62, 0.62]
    if wears_makeup:
        lips = 0.35 * lips + 0.65 * rng.uniform([0.5, 0.08, 0.12], [0.78, 0.3, 0.35])
    main = str(rng.choice(ANCESTRIES, p=identity.ancestry / identity.ancestry.sum()))
    chances = _HAIR_CHANCE[main]
    colour = str(rng.choice(list(chances), p=list(chances.values())))
    if rng.random() < np.clip((identity.age - 42) / 25, 0, 0.95):
        colour = "white" if rng.random() < np.clip((identity.age - 60) / 30, 0, 1) else "grey"
    styles = dict(_HAIR_STYLES[identity.gender])
    if identity.age < 35:
        styles = {kind: share for kind, share in styles.items() if kind not in ("receding", "bald")}
    kinds, weights = list(styles), np.array(list(styles.values()))
    fair = main == "caucasian"
    iris = str(rng.choice(list(_IRIS), p=[0.35, 0.3, 0.2, 0.15] if fair else [1.0, 0, 0, 0]))
    bearded = identity.gender == "male" and identity.age > 19 and rng.random() < 0.4
    return Style(
        skin=np.clip(skin, 0.05, 0.97).astype(np.float32),
        lips=np.clip(lips, 0.05, 0.95).astype(np.float32),
        hair=(np.array(_HAIR[colour]) * rng.uniform(0.8, 1.2)).astype(np.float32),
        hair_colour=colour,
        hair_style=str(rng.choice(kinds, p=weights / weights.sum())),
        hair_length=float(rng.random()),
        fringe=float(rng.beta(1.2, 2.0)),
        parting=float(rng.uniform(-1, 1)),
        iris=(np.array(_IRIS[iris]) * rng.uniform(0.8, 1.2)).astype(np.float32),
        iris_colour=iris,
        brows=float(rng.uniform(0.6, 1.1)),
        beard=float(rng.choice([0.35, 1.0])) if bearded else 0.0,
        glasses=str(rng.choice(["none", "round", "square"], p=[0.78, 0.11, 0.11])),
        frame=rng.choice(_FRAMES),
    )


def sample_look(style: Style, rng: np.random.Generator) -> Look:
    """Clothes and light of one clip for a person of this style."""
    azimuth, height = rng.uniform(-1.0, 1.0), rng.uniform(0.15, 0.9)
    light = np.array([np.sin(azimuth), height, np.cos(azimuth)])
    warmth = rng.normal(0, 0.05)
    strength = rng.uniform(0.55, 0.8)
    return Look(
        skin=style.skin,
        lips=style.lips,
        hair=style.hair,
        iris=style.iris,
        frame=style.frame,
        cloth=_cloth(rng),
        cloth_second=_cloth(rng),
        cloth_kind=int(rng.integers(len(CLOTHES))),
        brows=style.brows,
        beard=style.beard,
        fringe=style.fringe,
        parting=style.parting,
        hairline={"bald": 0.0, "receding": 0.45}.get(style.hair_style, 1.0),
        curls=1.0 if style.hair_style == "curly" else 0.0,
        light=(light / np.linalg.norm(light)).astype(np.float32),
        light_colour=(strength * np.array([1 + warmth, 1, 1 - warmth])).astype(np.float32),
        ambient=(rng.uniform(0.36, 0.5) * rng.normal([1.02, 1, 0.98], 0.02)).astype(np.float32),
        rim=(rng.uniform(0, 0.35) * rng.uniform(0.6, 1, 3)).astype(np.float32),
        seed=float(rng.uniform(0, 100)),
    )


def _cloth(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.uniform(0.1, 0.75), rng.uniform(0.12, 0.85)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation + saturation * wheel)).astype(np.float32)
