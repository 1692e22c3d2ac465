"""The flow time of reference audio, as a choice; light, so that a command line can list it."""

from enum import StrEnum


class ReferenceTime(StrEnum):
    """Time of the reference audio's tokens."""

    NOISY = "noisy"
    """That of the noisy tokens. [release]"""
    CLEAN = "clean"
    """0, as the other clean tokens have. [ours]"""
