"""The weights of a stage's losses, each a number or a ramp over the steps."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from uniavgen.config import Config, Count
from uniavgen.config.ramp import Ramp, check_points, is_ever_positive, ramp_value


@dataclass(frozen=True, kw_only=True)
class LossWeights(Config):
    """Weights of the sum of the losses: L = video L^v + audio L^a + face_mask L^m [paper 4.1]
    + duration L^d + lip_motion L^l [ours].

    Each is a number, `{start: A, end: B}` from the first step to the last, or a list of points `[step, value]`, so that
    stages may alternate between modalities.
    """

    renamed_keys: ClassVar[Mapping[str, str]] = {"pace": "duration", "lip_guide": "lip_motion"}

    video: Ramp = 1.0
    audio: Ramp = 1.0
    face_mask: Ramp = 0.0
    """lambda_m: 0.1 falling to 0 over stage 2. [paper 3.4, 4.1]"""
    face_focus: Ramp = 0.0
    """Extra weight of L^v inside the face; 0 in the paper. A small model on few clips otherwise learns mostly the
    background. [ours]"""
    mouth_focus: Ramp = 0.0
    """Extra weight of L^v in the lower half of the face, on top of `face_focus`: what moves there follows the audio.
    [ours]"""
    duration: Ramp = 0.0
    """Weight of the error of predicted symbol durations (`losses.duration_loss`), for models that predict them; 0
    in the paper. [ours]"""
    lip_motion: Ramp = 0.0
    """Weight of the error along the direction in which each face opens its mouth (`losses.lip_motion_loss`); 0 in the
    paper. Without it a small model on few clips ignores the audio for a long time. [ours]"""
    repeat_every: Count = 0
    """Steps after which lists of points begin anew; 0 for never."""

    def __post_init__(self) -> None:
        for name, ramp in self._ramps().items():
            check_points(ramp, name)

    def at(self, step: int, num_steps: int) -> dict[str, float]:
        """Returns every weight at a step (from 0) of a run of `num_steps` steps."""
        in_list = step % self.repeat_every if self.repeat_every else step
        return {
            name: ramp_value(ramp, in_list if isinstance(ramp, tuple) else step, num_steps)
            for name, ramp in self._ramps().items()
        }

    def used(self) -> set[str]:
        """Returns the names of the weights that are above 0 at some step."""
        return {name for name, ramp in self._ramps().items() if is_ever_positive(ramp)}

    def _ramps(self) -> dict[str, Ramp]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "repeat_every"}
