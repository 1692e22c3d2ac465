"""The transformer as the sampler calls it: state, sigma and the passes of a step in, one velocity per pass out.

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
    """Caption and speech of passes with text (True) and of passes without (False)."""
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
    _branch_caches: dict[tuple[tuple[bool, ...], tuple[int, ...]], BranchKVCache] = field(default_factory=dict)

    def __call__(self, state: AVPair, sigma: Float[Tensor, " b"] | AVPair, runs: tuple[Pass, ...]) -> list[AVPair]:
        """Returns the velocity of the whole clip in each pass; zeros in a modality that was not run."""
        video, audio = condition(self.task, state, self.clean, sigma, reference_time=self.reference_time)
        if self.batch_passes and _can_share_batch(runs):
            return self._run(runs, video, audio, state)
        return [velocity for run in runs for velocity in self._run((run,), video, audio, state)]

    def _run(self, runs: tuple[Pass, ...], video: Stream, audio: Stream, state: AVPair) -> list[AVPair]:
        """Runs passes in one call of the transformer; those without interaction come last."""
        gate, skip_layers, samples = runs[0].gate, runs[0].skip_layers, len(state.video)
        num_interacting = sum(run.gate != CLOSED for run in runs)
        has_text = tuple(run.text for run in runs)
        streams = {"video": _repeat(video, len(runs)), "audio": _repeat(audio, len(runs))}
        branch_cache = None
        if self._given is not None and self.reuse:
            if gate == CLOSED:
                streams[self._given] = None
            else:
                branch_cache = self._branch_cache(has_text[:num_interacting], skip_layers, video, audio)
        # FirstBlockCache compares a pass with the same pass of the step before, named by its context.
        caches_steps = self.transformer.is_cache_enabled
        with self.transformer.cache_context(str(runs)) if caches_steps else nullcontext():
            prediction = self.transformer(
                **streams,
                text=self._context(has_text),
                gate=gate,
                skip_layers=skip_layers,
                branch_cache=branch_cache,
                num_interacting=None if num_interacting in (0, len(runs)) else num_interacting * samples,
            )
        # A pass whose blocks the cache skipped returns the mask of its first block only.
        masks = prediction.face_masks if runs[0].text else None
        if masks is not None and (self.face_masks is None or masks.shape[1] >= self.face_masks.shape[1]):
            self.face_masks = masks[:samples]
        videos = _split(prediction.velocity.video, state.video, len(runs))
        audios = _split(prediction.velocity.audio, state.audio, len(runs))
        return [AVPair(video=picture, audio=sound) for picture, sound in zip(videos, audios, strict=True)]

    @property
    def _given(self) -> str | None:
        spec = TASKS[self.task]
        if spec.video is ModalityRole.GIVEN:
            return "video"
        return "audio" if spec.audio is ModalityRole.GIVEN else None

    @property
    def _branches_with_cached_text(self) -> list[Literal["video", "audio"]]:
        """The branches that cache keys and values of their text: those that read it in many passes."""
        run_once = self._given if self.reuse else None
        return [branch for branch in ("video", "audio") if branch != run_once] if self.cache_text_kv else []

    def _context(self, has_text: tuple[bool, ...]) -> TextContext:
        if has_text not in self._contexts:
            texts = _stack([self.texts[flag] for flag in has_text])
            self._contexts[has_text] = self.transformer.encode_text(texts, cache_kv=self._branches_with_cached_text)
        return self._contexts[has_text]

    def _branch_cache(
        self, has_text: tuple[bool, ...], skip_layers: tuple[int, ...], video: Stream, audio: Stream
    ) -> BranchKVCache:
        key = (has_text, skip_layers)
        if key not in self._branch_caches:
            self._branch_caches[key] = self.transformer.precompute_branch(
                _repeat(video, len(has_text)) if self._given == "video" else None,
                _repeat(audio, len(has_text)) if self._given == "audio" else None,
                self._context(has_text),
                skip_layers=skip_layers,
            )
        return self._branch_caches[key]


def _can_share_batch(runs: tuple[Pass, ...]) -> bool:
    """Whether passes run the same blocks, through one gate or, those that come last, through none."""
    return all(
        run.skip_layers == previous.skip_layers and (run.gate == previous.gate or run.gate == CLOSED)
        for previous, run in pairwise(runs)
    )


def _repeat(stream: Stream, times: int) -> Stream:
    """Returns the stream with its samples repeated along the batch, once for each pass."""
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


def _stack(texts: Sequence[TextInputs]) -> TextInputs:
    """Returns the texts of several passes as one batch, padded to the longest caption and the longest speech."""
    tokens = max(text.caption.shape[1] for text in texts)
    symbols = max(text.speech.shape[1] for text in texts)
    times = [text.symbol_timestamps for text in texts]
    return TextInputs(
        caption=torch.cat([F.pad(text.caption, (0, 0, 0, tokens - text.caption.shape[1])) for text in texts]),
        speech=torch.cat([F.pad(text.speech, (0, symbols - text.speech.shape[1]), value=FILLER) for text in texts]),
        speech_length=torch.cat([text.speech_length for text in texts]),
        symbol_timestamps=None
        if any(time is None for time in times)
        else torch.cat([F.pad(time, (0, symbols - time.shape[1]), value=nan) for time in times if time is not None]),
    )


def _split(velocity: Tensor | float, like: Tensor, parts: int) -> Sequence[Tensor]:
    """Returns the velocity of each pass, cut out of the batch; zeros in a modality that was not run."""
    return velocity.chunk(parts) if isinstance(velocity, Tensor) else [torch.zeros_like(like)] * parts
