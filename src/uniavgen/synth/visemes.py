# ruff: noqa: RUF001
"""From phones to mouth shapes, with coarticulation.

Every phone pulls the mouth towards its own target; how strongly, falls off exponentially before and after it
(dominance functions, Cohen and Massaro 1993), faster for the jaw than for lip rounding, and lip closures win.
The symbols are those of Kokoro (IPA, one character a diphthong: A ei, I ai, O ou, Q ou, W au, Y oi).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uniavgen.synth.arkit import ARKIT, INDEX, both

Phone = tuple[str, float, float]
"""Symbol, start and end in seconds."""

_STRESS = "ˈˌː"
_DIPHTHONGS = {"A": "ei", "I": "aɪ", "O": "oʊ", "Q": "əʊ", "W": "aʊ", "Y": "ɔɪ"}
_REACH_S = {"jaw": 0.045, "lips": 0.07}
"""How far a phone's pull reaches beyond it."""
_CLOSED_AT_LEAST_S = 0.075
"""A closure is held for a picture frame at least, or it falls between two frames."""


@dataclass(frozen=True, kw_only=True)
class _Viseme:
    jaw: float
    lips: dict[str, float]
    firm: float = 1.0
    """Weight of the pull against its neighbours'."""


def _visemes() -> dict[str, _Viseme]:
    units = {"spread": "mouthStretch", "lower": "mouthLowerDown", "upper": "mouthUpperUp", "press": "mouthPress"}
    pairs = {short: both(name, 1.0) for short, name in units.items()}

    def shape(jaw: float, firm: float = 1.0, **parts: float) -> _Viseme:
        lips: dict[str, float] = {}
        for name, weight in parts.items():
            for key, unit in pairs.get(name, {name: 1.0}).items():
                lips[key] = weight * unit
        return _Viseme(jaw=jaw, lips=lips, firm=firm)

    table = {
        "pbm": shape(0.0, 6.0, press=0.45, mouthRollLower=0.3, mouthRollUpper=0.25),
        "fv": shape(0.06, 4.0, mouthRollLower=0.65, upper=0.3),
        "θð": shape(0.16, 1.6, tongueOut=0.45, lower=0.2),
        "tdnszɾ": shape(0.12, 1.2, spread=0.18, lower=0.3),
        "l": shape(0.22, 1.0, spread=0.1, lower=0.3),
        "ʃʒʧʤ": shape(0.12, 1.8, mouthFunnel=0.65, upper=0.15),
        "kɡŋhjʔ": shape(0.22, 0.6, lower=0.15),
        "ɹ": shape(0.15, 1.2, mouthFunnel=0.4, mouthPucker=0.25),
        "w": shape(0.10, 2.2, mouthPucker=0.9, mouthFunnel=0.25),
        "uʊ": shape(0.17, 1.5, mouthPucker=0.8, mouthFunnel=0.35),
        "o": shape(0.42, 1.3, mouthFunnel=0.75, mouthPucker=0.2),
        "ɔɒ": shape(0.58, 1.3, mouthFunnel=0.6),
        "ɑa": shape(0.80, 1.3, lower=0.3),
        "æ": shape(0.70, 1.3, lower=0.35, spread=0.3, upper=0.2),
        "ʌɐ": shape(0.52, 1.1, lower=0.25),
        "ə": shape(0.32, 0.7, lower=0.15),
        "ᵊᵻ": shape(0.22, 0.6, lower=0.15),
        "ɜ": shape(0.36, 1.1, mouthFunnel=0.3),
        "ɛe": shape(0.50, 1.2, spread=0.35, lower=0.3, upper=0.15),
        "iɪ": shape(0.24, 1.2, spread=0.55, lower=0.3, upper=0.15),
    }
    return {symbol: viseme for symbols, viseme in table.items() for symbol in symbols}


VISEMES = _visemes()
_REST = _Viseme(jaw=0.0, lips={}, firm=0.45)


def _segments(phones: Sequence[Phone], duration_s: float) -> list[tuple[_Viseme, float, float]]:
    segments: list[tuple[_Viseme, float, float]] = []
    for symbol, start, end in phones:
        if symbol in _STRESS and segments:
            viseme, first, _ = segments[-1]
            segments[-1] = (viseme, first, end)
            continue
        parts = [VISEMES[s] for s in _DIPHTHONGS.get(symbol, symbol) if s in VISEMES]
        # Word gaps are no pauses: only silence of a tenth of a second closes the mouth.
        if not parts and end - start < 0.1:
            continue
        times = np.linspace(start, end, len(parts) + 1) if parts else np.array([start, end])
        segments += list(zip(parts or [_REST], times[:-1].tolist(), times[1:].tolist(), strict=True))
    if not segments:
        return [(_REST, 0.0, duration_s)]
    return [(_REST, -1.0, segments[0][1] - 0.06), *segments, (_REST, segments[-1][2] + 0.05, duration_s + 1.0)]


def speech_shapes(
    phones: Sequence[Phone], num_frames: int, fps: float, openness: float = 1.0
) -> Float[np.ndarray, "F 52"]:
    """Weights of the ARKit shapes at the middle of every frame; `openness` scales the jaw."""
    duration = num_frames / fps
    segments = _segments(phones, duration)
    time = (np.arange(num_frames)[:, None] + 0.5) / fps
    start, end = np.array([s for _, s, _ in segments]), np.array([e for _, _, e in segments])
    end = np.maximum(end, start + 1e-3)
    firm = np.array([v.firm for v, _, _ in segments])
    closing = firm > 3
    missing = np.where(closing, np.maximum(_CLOSED_AT_LEAST_S - (end - start), 0), 0)
    away = np.maximum(np.maximum(start - missing / 2 - time, time - end - missing / 2), 0)

    jaw_targets = np.array([v.jaw for v, _, _ in segments])
    lip_targets = np.zeros((len(segments), len(ARKIT)))
    for i, (viseme, _, _) in enumerate(segments):
        for name, weight in viseme.lips.items():
            lip_targets[i, INDEX[name]] = weight
    shapes = _blend(firm, away, _REACH_S["lips"]) @ lip_targets
    shapes[:, INDEX["jawOpen"]] = openness * (_blend(firm, away, _REACH_S["jaw"]) @ jaw_targets)
    return np.clip(shapes, 0, 1).astype(np.float32)


def _blend(firm: Float[np.ndarray, " n"], away: Float[np.ndarray, "F n"], reach_s: float) -> Float[np.ndarray, "F n"]:
    pull = firm * np.exp(-away / reach_s) + 1e-9
    return pull / pull.sum(1, keepdims=True)


def stressed(phones: Sequence[Phone]) -> list[float]:
    """Times in seconds of the main stresses."""
    return [start for symbol, start, _ in phones if symbol == "ˈ"]
