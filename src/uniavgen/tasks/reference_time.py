"""Lists the choices for the flow time of reference audio. It imports no torch, so that a command line can show it."""

from enum import StrEnum


class ReferenceTime(StrEnum):
    """Chooses the flow time of the reference audio's tokens."""

    NOISY = "noisy"
    """sigma, as noisy tokens have. [release]"""
    CLEAN = "clean"
    """0, as other clean tokens have. [ours]"""
