"""The four moods: what each does to face, head and voice. Strength 0 to 1 scales all of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from uniavgen.synth.arkit import both


@dataclass(frozen=True, kw_only=True)
class Mood:
    """A mood at full strength."""

    name: str
    adverbs: tuple[str, ...] = ()
    """How a caption says it at the lower and at the higher strength."""
    face: Mapping[str, float] = field(default_factory=dict)
    """Weights added to the ARKit shapes."""
    energy: float = 1.0
    """Head and brow movement against neutral."""
    pitch: float = 1.0
    """Pitch and, where speech is only resampled, rate with it."""
    rate: float = 1.0
    """Speed of a voice that can change it apart from pitch."""
    gain_db: float = 0.0
    tone_db: Mapping[float, float] = field(default_factory=dict)
    """Gain of the voice's spectrum at frequencies in Hz, on a line of log frequency between them."""
    pitch_down: float = 0.0
    """How far the head hangs, radians."""


NEUTRAL = Mood(name="neutral", adverbs=("calmly", "in a neutral tone"))
HAPPY = Mood(
    name="happy",
    adverbs=("cheerfully", "with great joy"),
    face={
        **both("mouthSmile", 0.62),
        **both("cheekSquint", 0.5),
        **both("browOuterUp", 0.3),
        **both("mouthUpperUp", 0.12),
    },
    energy=1.35,
    pitch=1.06,
    rate=1.06,
    gain_db=0.5,
    # A smile shortens the vocal tract: a ring around 3 kHz.
    tone_db={1000.0: -1.0, 1800.0: 0.0, 3000.0: 9.5, 4200.0: 6.0, 7000.0: 0.0},
    pitch_down=-0.03,
)
ANGRY = Mood(
    name="angry",
    adverbs=("sternly", "with open anger"),
    face={
        **both("browDown", 0.95),
        **both("eyeSquint", 0.4),
        **both("noseSneer", 0.55),
        **both("mouthFrown", 0.3),
        **both("mouthUpperUp", 0.15),
        **both("mouthStretch", 0.15),
    },
    energy=1.6,
    pitch=1.03,
    rate=1.08,
    gain_db=2.0,
    # A pressed voice: little of the lowest partials, much treble.
    tone_db={250.0: -7.0, 600.0: -1.0, 1500.0: 4.0, 3000.0: 5.0, 8000.0: 8.0},
    pitch_down=0.05,
)
SAD = Mood(
    name="sad",
    adverbs=("with a little sadness", "in deep sorrow"),
    face={"browInnerUp": 1.0, **both("mouthFrown", 0.65), **both("eyeBlink", 0.2), "mouthShrugLower": 0.3},
    energy=0.55,
    pitch=0.94,
    rate=0.9,
    gain_db=-4.0,
    # A lax voice: dull.
    tone_db={250.0: 2.0, 800.0: 0.0, 1500.0: -5.0, 3000.0: -10.0, 8000.0: -13.0},
    pitch_down=0.11,
)
MOODS: tuple[Mood, ...] = (NEUTRAL, HAPPY, ANGRY, SAD)
STRENGTHS: tuple[float, float] = (0.55, 1.0)
