"""Marks what was generated of a clip; what a user gave stays as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, UInt8

from uniavgen.provenance.perth_weights import PACKAGE, find_perth
from uniavgen.provenance.picture_mark import MIN_SIDE_PX, mark_frames
from uniavgen.provenance.sound_mark import mark_sound

PICTURE_MARK: Final = "tile-1"
"""Version of the pattern."""
SOUND_MARK: Final = f"{PACKAGE}-1.0.1"
NOT_MARKED: Final = "none: "
"""What a reason begins with."""


@dataclass(frozen=True, kw_only=True)
class MarkedClip:
    """Frames and sound of a clip, and what marks they carry."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    waveform: Float32[np.ndarray, " samples"]
    marks: Mapping[str, str]
    """Of picture and sound: the name of the mark, or NOT_MARKED and why not."""


def mark_clip(
    frames: UInt8[np.ndarray, "frames height width 3"],
    waveform: Float32[np.ndarray, " samples"],
    rate_hz: int,
    given_frames: int = 0,
    given_samples: int = 0,
) -> MarkedClip:
    """Returns a clip with marks in the frames and the sound behind the given ones; arguments stay as they are."""
    if given_frames >= len(frames):
        picture = NOT_MARKED + "it was given"
    elif min(frames.shape[1:3]) < MIN_SIDE_PX:
        picture = f"{NOT_MARKED}a side has less than {MIN_SIDE_PX} px"
    else:
        picture, frames = PICTURE_MARK, mark_frames(frames, given_frames)
    if given_samples >= len(waveform):
        sound = NOT_MARKED + "it was given"
    elif find_perth() is None:
        sound = f"{NOT_MARKED}the package {PACKAGE} is not installed"
    else:
        marked = mark_sound(waveform, rate_hz, given_samples)
        sound = NOT_MARKED + "it is silent or too short" if marked is waveform else SOUND_MARK
        waveform = marked
    return MarkedClip(frames=frames, waveform=waveform, marks={"picture": picture, "sound": sound})
