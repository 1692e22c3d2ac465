"""What a metric sees and says: a made clip beside its truth, and one number or a reason why there is none.

A new metric is one file with one class: a `name`, a `description` and `score`. Nothing else has to know it but the list
that the command line makes.

Letters: F pixel frames, H W pixels, f latent frames, h w grid of a latent frame's video tokens.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8


class NotMeasured(Exception):  # noqa: N818 - no error: a row of the report with its reason
    """This metric says nothing about this clip; the text says why."""


@dataclass(frozen=True, kw_only=True)
class TruthClip:
    """A rendered clip with what is known about it."""

    key: str
    frames: UInt8[np.ndarray, "F H W 3"]
    waveform: Float[np.ndarray, " samples"]
    """Mono in [-1, 1] at `timebase.Timebase.sample_rate_hz`."""
    caption: str
    speech: str
    mouth_opening: Float[np.ndarray, " F"]
    """As the renderer drove it, in the renderer's unit."""
    face_mask: Bool[np.ndarray, "F H W"]


@dataclass(frozen=True, kw_only=True)
class MadeClip:
    """What a system made for a truth clip."""

    frames: UInt8[np.ndarray, "F H W 3"]
    waveform: Float[np.ndarray, " samples"]
    face_mask: Float[np.ndarray, "f h w"] | None = None
    """Where the system believes the face is, in [0, 1] on the token grid; None where it says nothing."""
    begins_as: TruthClip | None = None
    """The truth clip whose first picture this one begins with, where that is not the clip it is measured against."""


@runtime_checkable
class Metric(Protocol):
    """One number for one made clip."""

    @property
    def name(self) -> str:
        """Key in report.json."""
        ...

    @property
    def description(self) -> str:
        """One line for the report: what it is, its range, which way is better."""
        ...

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        """The number; raises NotMeasured with the reason where it does not apply."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Stands for a metric that cannot be computed here; every clip gets the reason."""

    name: str
    description: str
    reason: str

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        del made, truth
        raise NotMeasured(self.reason)
