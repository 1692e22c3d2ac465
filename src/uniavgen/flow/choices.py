"""Names of what can be chosen about sampling; light, so that a command line can list them before torch is imported."""

from enum import StrEnum


class Spacing(StrEnum):
    """How the unshifted times of the steps are spaced; names as in diffusers."""

    LINSPACE = "linspace"
    """Evenly from 1 to a thousandth, where the last step begins; it does next to nothing. [release]"""
    TRAILING = "trailing"
    """Evenly from 1 to 0: all steps count, which is felt where there are few. [ours]"""


class SolverKind(StrEnum):
    """Which `flow.solver` integrates the velocity."""

    EULER = "euler"
    """First order. [release]"""
    UNIPC = "unipc"
    """Second-order multistep of diffusers, for few steps. [ours]"""


PAPER_GUIDANCE, RELEASE_GUIDANCE = "ma_cfg_interval", "release"
GUIDANCE_NAMES = ("none", "vanilla", "ma_cfg", PAPER_GUIDANCE, "ma_cfg_interval_none", RELEASE_GUIDANCE)
"""Keys of `flow.guidance.GUIDANCE`."""
