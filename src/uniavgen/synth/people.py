"""The people of a world: a fixed number a voice, each with a face, a style and a way to sound."""

import zlib
from dataclasses import dataclass

import numpy as np

from uniavgen.synth.appearance import Style, sample_style
from uniavgen.synth.hair import build_attachments
from uniavgen.synth.head import HeadMesh
from uniavgen.synth.head_data import HeadData
from uniavgen.synth.identity import Identity, sample_identity


@dataclass(frozen=True, kw_only=True)
class Person:
    """Someone who speaks with one voice."""

    name: str
    identity: Identity
    style: Style
    pitch: float
    """Pitch against the voice of the source: children higher, old people lower."""

    def head(self, data: HeadData) -> HeadMesh:
        """Returns the person's head with hair and glasses."""
        return HeadMesh(data, self.identity, build_attachments(data, self.identity, self.style))


def sample_person(data: HeadData, population: int, voice: str, gender: str, number: int) -> Person:
    """Returns person `number` among those who speak with `voice` in the population of this seed."""
    rng = np.random.default_rng([population, zlib.crc32(voice.encode()), number])
    kind = rng.random()
    if gender == "female" and kind < 0.3:
        # Children, boys too, sound most natural on a woman's voice tuned up.
        age, pitch = rng.uniform(8, 14), rng.uniform(1.12, 1.22)
        gender = str(rng.choice(["female", "male"]))
    elif kind > 0.82:
        age, pitch = rng.uniform(63, 82), rng.uniform(0.92, 0.97)
    else:
        age, pitch = rng.uniform(18, 62), rng.uniform(0.96, 1.05)
    identity = sample_identity(data, rng, gender, float(age))
    return Person(
        name=f"{population}-{voice}-{number}", identity=identity, style=sample_style(identity, rng), pitch=float(pitch)
    )
