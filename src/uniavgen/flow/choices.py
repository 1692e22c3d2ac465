"""Lists what can be chosen about sampling. It imports no torch, so that a command line can show it at once."""

from enum import StrEnum


class Spacing(StrEnum):
    """Names how the unshifted times of the steps are spaced, as diffusers does."""

    LINSPACE = "linspace"
    """Evenly from 1 to 1/1000, where the last step begins: a step so short that it changes almost nothing. [release]"""
    TRAILING = "trailing"
    """Evenly from 1 to 0: all steps have one length, which matters where they are few. [ours]"""


class SolverKind(StrEnum):
    """Names the solver that integrates the velocity (`flow.solver`)."""

    EULER = "euler"
    """First order. [release]"""
    UNIPC = "unipc"
    """Second-order multistep of diffusers, for few steps. [ours]"""


PAPER_GUIDANCE, RELEASE_GUIDANCE = "ma_cfg_interval", "release"
GUIDANCE_NAMES = ("none", "vanilla", "ma_cfg", PAPER_GUIDANCE, "ma_cfg_interval_none", RELEASE_GUIDANCE)
"""Keys of `flow.guidance.GUIDANCE`."""
