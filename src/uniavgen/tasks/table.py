"""Declares the five tasks as one table. [paper 3.5, 4.1; supplement]

Everything that differs between tasks stands here; layout, masks and times follow from it in `conditioning`, and
training and inference read the same rows.
"""

from dataclasses import dataclass
from enum import StrEnum

from uniavgen.batch import OPEN, Gate
from uniavgen.tasks.names import Task
from uniavgen.timebase import Source


class ModalityRole(StrEnum):
    """Chooses how much of a modality is given.

    Given latent frames and audio tokens are clean: their time is 0, they send interaction but receive none, and they
    carry no loss. All others have time t, receive interaction, and carry loss.
    """

    GENERATED = "generated"
    """Nothing, except that the first latent frame of a video is always the reference image's. [release]"""
    PREFIX = "prefix"
    """A leading part."""
    GIVEN = "given"
    """All of it."""


class ReferenceAudio(StrEnum):
    """Chooses whether a recording of the speaker stands in front of the clip's audio, without interaction."""

    NONE = "none"
    ALLOWED = "allowed"
    NEEDED = "needed"


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Describes one task: a row of `TASKS`."""

    video: ModalityRole
    audio: ModalityRole
    reference_audio: ReferenceAudio
    gate: Gate
    """Directions of interaction in every pass. A modality that is given as a whole receives nothing."""
    release_gate: Gate | None = None
    """Gate of the conditional pass only, where the release closes more than the paper does."""
    ratio: int
    """Relative frequency in training. [paper 4.1: 4:1:1:2:2]"""

    def conditional_gate(self, source: Source) -> Gate:
        """Returns the gate of the conditional pass; unconditional passes have `gate`."""
        if source is Source.RELEASE and self.release_gate is not None:
            return self.release_gate
        return self.gate


TASKS: dict[Task, TaskSpec] = {
    Task.JOINT: TaskSpec(
        video=ModalityRole.GENERATED,
        audio=ModalityRole.GENERATED,
        reference_audio=ReferenceAudio.NONE,
        gate=OPEN,
        ratio=4,
    ),
    Task.REFERENCE_AUDIO: TaskSpec(
        video=ModalityRole.GENERATED,
        audio=ModalityRole.GENERATED,
        reference_audio=ReferenceAudio.NEEDED,
        gate=OPEN,
        # The paper keeps only the reference tokens out of interaction; the release closes v2a altogether.
        release_gate=Gate(a2v=True, v2a=False),
        ratio=1,
    ),
    Task.CONTINUATION: TaskSpec(
        video=ModalityRole.PREFIX,
        audio=ModalityRole.PREFIX,
        reference_audio=ReferenceAudio.NONE,
        gate=OPEN,
        ratio=1,
    ),
    Task.DUBBING: TaskSpec(
        video=ModalityRole.GIVEN,
        audio=ModalityRole.GENERATED,
        reference_audio=ReferenceAudio.ALLOWED,
        gate=Gate(a2v=False, v2a=True),
        ratio=2,
    ),
    Task.ANIMATION: TaskSpec(
        video=ModalityRole.GENERATED,
        audio=ModalityRole.GIVEN,
        reference_audio=ReferenceAudio.NONE,
        gate=Gate(a2v=True, v2a=False),
        ratio=2,
    ),
}
