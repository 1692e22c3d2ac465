"""What the pipeline gives back, and what it says while it works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One finished clip; frame 0 and sample 0 belong to the same time."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    """Dubbing returns the given frames, as the model saw them; a continuation begins with them."""
    fps: Fraction
    waveform: Float32[np.ndarray, " samples"]
    """Mono in [-1, 1]. Animation returns the given sound, with silence behind it where it was shorter; a continuation
    begins with it, but for the last 10 ms of the given part."""
    sample_rate_hz: int
    mel: Float32[np.ndarray, "tokens mel"]
    """Raw log-mel, given parts included."""
    face_mask: Float32[np.ndarray, "latent_frames rows columns"] | None
    """Where the model sees the face, mean over layers at the last step, on its token grid [paper eq. (8)]; None
    without face-aware modulation."""
    settings: dict[str, str | int | float] = field(default_factory=dict)
    """What it was made with, for the file's metadata."""


class Stage(StrEnum):
    """Stages of the work, in order."""

    ENCODE = "encode"
    SAMPLE = "sample"
    DECODE_VIDEO = "decode video"
    DECODE_AUDIO = "decode audio"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `total` steps of a stage are done."""

    stage: Stage
    step: int
    total: int


OnProgress = Callable[[Progress], None]
"""An exception that it raises ends the work."""
