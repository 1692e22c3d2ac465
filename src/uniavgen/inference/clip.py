"""What the pipeline returns, and how it reports its progress."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A generated clip; frame 0 and sample 0 belong to the same time."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    """In dubbing the given frames, resized for the model; a continuation begins with the given ones."""
    fps: Fraction
    waveform: Float32[np.ndarray, " samples"]
    """Mono in [-1, 1]. In animation the given waveform, with silence behind it where it was shorter; a continuation
    begins with the given one, but for its last 10 ms, which are crossfaded."""
    sample_rate_hz: int
    mel: Float32[np.ndarray, "tokens mel"]
    """Log-mel, not normalised, given parts included."""
    face_mask: Float32[np.ndarray, "latent_frames rows columns"] | None
    """Probability of a face at each video token, mean over layers at the last step [paper eq. (8)]; None without
    face-aware modulation."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Request and sampling settings, for the metadata of the file."""


class Phase(StrEnum):
    """Phases of generating a clip, in order; memory is planned and progress is reported by phase."""

    ENCODE_TEXT = "encode text"
    ENCODE_FRAMES = "encode picture"
    """The image or the given video; given audio costs next to nothing. The value stands in saved reports."""
    SAMPLE = "sample"
    DECODE_VIDEO = "decode video"
    DECODE_AUDIO = "decode audio"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`step` of `total` steps of a phase are done."""

    phase: Phase
    step: int
    total: int


OnProgress = Callable[[Progress], None]
"""Called after every step; an exception that it raises ends the generation."""
