"""A rendered clip and the truth that comes with it.

Letters: F pixel frames, H W picture, o opening samples of the mouth a frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from uniavgen.synth.visemes import Phone


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What the world knows about a clip."""

    text: str
    caption: str
    phones: tuple[Phone, ...]
    mouth_opening: Float[np.ndarray, " F"]
    """Distance of the inner lips over face height."""
    arkit: Float[np.ndarray, "F 52"]
    head_pose: Float[np.ndarray, "F 3"]
    """Yaw, pitch, roll in radians."""
    identity: str
    speaker: str
    """The same for clips whose voices sound the same."""
    gender: str
    age: float
    voice: str
    """Name of the voice in the speech source."""
    mood: str
    strength: float
    place: str
    framing: str
    art: str
    """How it is drawn (`renderer.Art`)."""
    utterance: str
    """Which utterance of the speech source it is; never in two splits."""


@dataclass(frozen=True, kw_only=True)
class RenderedClip:
    """Pictures and sound of one clip of the world."""

    key: str
    fps: float
    frames: UInt8[np.ndarray, "F H W 3"]
    face_masks: Bool[np.ndarray, "F H W"]
    waveform: Float32[np.ndarray, " samples"]
    """Mono, exactly as long as the frames."""
    sample_rate_hz: int
    truth: GroundTruth
