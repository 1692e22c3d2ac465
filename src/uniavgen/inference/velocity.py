"""The transformer as the sampler sees it: state, sigma and the passes of a step in, a velocity a pass out.

Texts are encoded once per clip, and what blocks read of them is projected once. A modality that is given as a whole
does not change from step to step: it is run once per text, and passes without interaction do not run it at all. Passes
that differ only in their text, or in whether there is any interaction, may share one batch.

Letters: b batch, f latent frames, l audio tokens, n video tokens a frame.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import nan
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import CLOSED, AVPair, Stream, TextInputs, TokenTimesteps
from uniavgen.flow.guidance import Pass
from uniavgen.models.forward_inputs import TextContext
from uniavgen.models.interaction.layer import BranchKVCache
from uniavgen.models.transformer import UniAVGenTransformer
from uniavgen.tasks.conditioning import ClipConditions, condition
from uniavgen.tasks.reference_time import ReferenceTime
from uniavgen.tasks.speech_prompt import FILLER
from uniavgen.tasks.table import TASKS, ModalityRole, Task


@dataclass(kw_only=True)
class ClipVelocity:
    """A `flow.sampling.VelocityFunction` for one clip."""

    transformer: UniAVGenTransformer
    task: Task
    clean: ClipConditions
    texts: Mapping[bool, TextInputs]
    """What passes with text (True) and without (False) are told."""
    reference_time: ReferenceTime = ReferenceTime.NOISY
    reuse: bool = True
    """Whether a given modality is run once instead of in every pass; the result is the same."""
    batch_passes: bool = False
    """Whether the passes of a step share one batch where they can: fewer, larger calls for twice the activations. The
    result is the same but for rounding."""
    cache_text_kv: bool = True
    """Whether blocks project their keys and values of a text once instead of in every pass; the result is the same.
    Not for weights that are on the device only while their block runs."""
    face_masks: Float[Tensor, "b layers f n"] | None = None
    """Of the latest pass with text."""
    _contexts: dict[tuple[bool, ...], TextContext] = field(default_factory=dict)
    _memories: dict[tuple[tuple[bool, ...], tuple[int, ...]], BranchKVCache] = field(default_factory=dict)

    def __call__(self, state: AVPair, sigma: Float[Tensor, " b"], runs: tuple[Pass, ...]) -> list[AVPair]:
        """Velocity of the whole clip in each pass; zeros in a modality that was not run."""
        video, audio = condition(self.task, state, self.clean, sigma, reference_time=self.reference_time)
        if self.batch_passes and _share_a_batch(runs):
            return self._run(runs, video, audio, state)
        return [velocity for run in runs for velocity in self._run((run,), video, audio, state)]

    def _run(self, runs: tuple[Pass, ...], video: Stream, audio: Stream, state: AVPair) -> list[AVPair]:
        """One call of the transformer; passes without interaction come last."""
        gate, skip_layers, samples = runs[0].gate, runs[0].skip_layers, len(state.video)
        num_interacting = sum(run.gate != CLOSED for run in runs)
        has_text = tuple(run.text for run in runs)
        streams = {"video": _repeated(video, len(runs)), "audio": _repeated(audio, len(runs))}
        memory = None
        if self._given is not None and self.reuse:
            if gate == CLOSED:
                streams[self._given] = None
            else:
                memory = self._memory(has_text[:num_interacting], skip_layers, video, audio)
        # A cache over steps keeps what it knows of each pass apart.
        cached = self.transformer.is_cache_enabled
        with self.transformer.cache_context(str(runs)) if cached else nullcontext():
            prediction = self.transformer(
                **streams,
                text=self._context(has_text),
                gate=gate,
                skip_layers=skip_layers,
                branch_cache=memory,
                num_interacting=None if num_interacting in (0, len(runs)) else num_interacting * samples,
            )
        # A pass whose blocks were not run, since a cache knew them, makes the first block's mask only.
        masks = prediction.face_masks if runs[0].text else None
        if masks is not None and (self.face_masks is None or masks.shape[1] >= self.face_masks.shape[1]):
            self.face_masks = masks[:samples]
        pictures = _split(prediction.velocity.video, state.video, len(runs))
        sounds = _split(prediction.velocity.audio, state.audio, len(runs))
        return [AVPair(video=picture, audio=sound) for picture, sound in zip(pictures, sounds, strict=True)]

    @property
    def _given(self) -> str | None:
        spec = TASKS[self.task]
        if spec.video is ModalityRole.GIVEN:
            return "video"
        return "audio" if spec.audio is ModalityRole.GIVEN else None

    @property
    def _keeping(self) -> list[Literal["video", "audio"]]:
        """Branches whose text is kept as keys and values: those that read it in many passes."""
        once = self._given if self.reuse else None
        return [branch for branch in ("video", "audio") if branch != once] if self.cache_text_kv else []

    @property
    def text_kv_bytes(self) -> int:
        """Of keys and values of the texts, in all blocks."""
        kept = [text.cached_kv or () for said in self._contexts.values() for text in (said.caption, said.speech)]
        return sum(read.key.nbytes + read.value.nbytes for reads in kept for read in reads)

    def _context(self, has_text: tuple[bool, ...]) -> TextContext:
        if has_text not in self._contexts:
            texts = _stacked([self.texts[told] for told in has_text])
            self._contexts[has_text] = self.transformer.encode_text(texts, cache_kv=self._keeping)
        return self._contexts[has_text]

    def _memory(
        self, has_text: tuple[bool, ...], skip_layers: tuple[int, ...], video: Stream, audio: Stream
    ) -> BranchKVCache:
        key = (has_text, skip_layers)
        if key not in self._memories:
            self._memories[key] = self.transformer.precompute_branch(
                _repeated(video, len(has_text)) if self._given == "video" else None,
                _repeated(audio, len(has_text)) if self._given == "audio" else None,
                self._context(has_text),
                skip_layers=skip_layers,
            )
        return self._memories[key]


def _share_a_batch(runs: tuple[Pass, ...]) -> bool:
    """Whether they run the same blocks, through one gate or, those that come last, through none."""
    return all(
        run.skip_layers == before.skip_layers and (run.gate == before.gate or run.gate == CLOSED)
        for before, run in pairwise(runs)
    )


def _repeated(stream: Stream, times: int) -> Stream:
    """The same samples once for each pass."""
    if times == 1:
        return stream
    return replace(
        stream,
        values=torch.cat([stream.values] * times),
        timesteps=TokenTimesteps(
            unique=torch.cat([stream.timesteps.unique] * times), index=torch.cat([stream.timesteps.index] * times)
        ),
        update_mask=torch.cat([stream.update_mask] * times),
    )


def _stacked(texts: Sequence[TextInputs]) -> TextInputs:
    """Texts of several passes as one batch, filled up to the longest of each kind."""
    tokens = max(text.caption.shape[1] for text in texts)
    symbols = max(text.speech.shape[1] for text in texts)
    times = [text.symbol_timestamps for text in texts]
    return TextInputs(
        caption=torch.cat([F.pad(text.caption, (0, 0, 0, tokens - text.caption.shape[1])) for text in texts]),
        speech=torch.cat([F.pad(text.speech, (0, symbols - text.speech.shape[1]), value=FILLER) for text in texts]),
        speech_length=torch.cat([text.speech_length for text in texts]),
        symbol_timestamps=None
        if any(known is None for known in times)
        else torch.cat(
            [F.pad(known, (0, symbols - known.shape[1]), value=nan) for known in times if known is not None]
        ),
    )


def _split(velocity: Tensor | float, like: Tensor, parts: int) -> Sequence[Tensor]:
    """The velocity of each pass; zeros in a modality that was not run."""
    return velocity.chunk(parts) if isinstance(velocity, Tensor) else [torch.zeros_like(like)] * parts
