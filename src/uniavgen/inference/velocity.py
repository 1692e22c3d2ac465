"""The transformer as the sampler sees it: state, sigma and pass in, velocity out.

Texts are encoded once per clip. A modality that is given as a whole does not change from step to step: it is run once
per text, and passes without interaction do not run it at all.

Letters: b batch, f latent frames, n video tokens a frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import CLOSED, AVPair, Stream, TextInputs
from uniavgen.flow.guidance import Pass
from uniavgen.models.transformer import BranchMemory, TextContext, UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, ReferenceTime, condition
from uniavgen.tasks.table import TASKS, Part, Task


@dataclass(kw_only=True)
class ClipVelocity:
    """A `flow.sampling.Velocity` for one clip."""

    transformer: UniAVGenTransformer
    task: Task
    clean: ClipConditions
    texts: Mapping[bool, TextInputs]
    """What passes with text (True) and without (False) are told."""
    reference_time: ReferenceTime = ReferenceTime.NOISY
    reuse: bool = True
    """Whether a given modality is run once instead of in every pass; the result is the same."""
    face_masks: Float[Tensor, "b layers f n"] | None = None
    """Of the latest pass with text."""
    _contexts: dict[bool, TextContext] = field(default_factory=dict)
    _memories: dict[tuple[bool, tuple[int, ...]], BranchMemory] = field(default_factory=dict)

    def __call__(self, state: AVPair, sigma: Float[Tensor, " b"], run: Pass) -> AVPair:
        """Velocity of the whole clip; zeros in a modality that was not run."""
        video, audio = condition(self.task, state, self.clean, sigma, reference_time=self.reference_time)
        text = self._context(run.text)
        if self._given is None or not self.reuse:
            prediction = self.transformer(video, audio, text, gate=run.gate, skip_layers=run.skip_layers)
        elif run.gate == CLOSED:
            alone = {
                "video": None if self._given == "video" else video,
                "audio": None if self._given == "audio" else audio,
            }
            prediction = self.transformer(**alone, text=text, gate=CLOSED, skip_layers=run.skip_layers)
        else:
            memory = self._memory(run, video, audio)
            prediction = self.transformer(video, audio, text, gate=run.gate, skip_layers=run.skip_layers, memory=memory)
        if run.text and prediction.face_masks is not None:
            self.face_masks = prediction.face_masks
        return AVPair(
            video=_or_zeros(prediction.velocity.video, state.video),
            audio=_or_zeros(prediction.velocity.audio, state.audio),
        )

    @property
    def _given(self) -> str | None:
        spec = TASKS[self.task]
        if spec.video is Part.GIVEN:
            return "video"
        return "audio" if spec.audio is Part.GIVEN else None

    def _context(self, has_text: bool) -> TextContext:
        if has_text not in self._contexts:
            self._contexts[has_text] = self.transformer.encode_text(self.texts[has_text])
        return self._contexts[has_text]

    def _memory(self, run: Pass, video: Stream, audio: Stream) -> BranchMemory:
        key = (run.text, run.skip_layers)
        if key not in self._memories:
            self._memories[key] = self.transformer.remember(
                video if self._given == "video" else None,
                audio if self._given == "audio" else None,
                self._context(run.text),
                skip_layers=run.skip_layers,
            )
        return self._memories[key]


def _or_zeros(velocity: Tensor | float, like: Tensor) -> Tensor:
    return velocity if isinstance(velocity, Tensor) else torch.zeros_like(like)
