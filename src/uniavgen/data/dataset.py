"""Batches for training: a pure function of the step, so resuming needs the step's number and nothing else.

Letters: b batch, c latent channels, f latent frames, h w latent grid, l audio tokens, r reference audio tokens,
n video tokens a frame, m caption tokens, d caption width, p speech symbols.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import TextInputs
from uniavgen.codecs import mel
from uniavgen.data.features import Features, FeatureSet
from uniavgen.data.sampler import Sampler
from uniavgen.data.words import Word, symbol_times
from uniavgen.errors import DataError
from uniavgen.tasks.given_lengths import reference_silence_tokens
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.speech_prompt import TimedText, encode_prompts, speech_prompt
from uniavgen.timebase import ClipTiming

_REFERENCE_STREAM = 2
"""Separates the draws of reference audio from the sampler's."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's clips on one rank, normalised, float32."""

    spec: StepSpec
    """The task and its lengths, one for all clips."""
    mel: Float[Tensor, "b l mel"]
    text: TextInputs
    uncond_text: TextInputs
    """What a pass without text is told: the empty caption, and of the speech only the reference's transcript."""
    latents: Float[Tensor, "b c f h w"] | None = None
    """None for speech alone."""
    face_mask: Float[Tensor, "b f n"] | None = None
    """Truth on the token grid; NaN in clips without truth."""
    reference_audio: Float[Tensor, "b r mel"] | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""

        def moved(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        def texts(text: TextInputs) -> TextInputs:
            return TextInputs(
                caption=text.caption.to(device),
                speech=text.speech.to(device),
                speech_length=text.speech_length.to(device),
                symbol_timestamps=moved(text.symbol_timestamps),
            )

        return Batch(
            spec=self.spec,
            mel=self.mel.to(device, non_blocking=True),
            text=texts(self.text),
            uncond_text=texts(self.uncond_text),
            latents=moved(self.latents),
            face_mask=moved(self.face_mask),
            reference_audio=moved(self.reference_audio),
        )


@dataclass(frozen=True)
class Transcript:
    """A transcript with the times of its words from the start of the sound; no words where times are unknown."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, kw_only=True)
class CaptionSize:
    """Size that captions are padded to with zeros. [release]"""

    tokens: int
    width: int


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Clips of several feature sets, mixed, cropped to `timing`, with reference audio and symbols."""

    sources: tuple[FeatureSet, ...]
    weights: tuple[int, ...]
    seed: int
    timing: ClipTiming
    """Clips that are longer are cut; their transcript then holds the words spoken before the cut."""
    symbols: Callable[[str], Sequence[int]]
    """Speech text to ids of at least 1."""
    caption: CaptionSize
    with_video: bool
    """False for training the audio branch alone: no latents are read."""

    @cached_property
    def sampler(self) -> Sampler:
        return Sampler(sizes=tuple(len(source) for source in self.sources), weights=self.weights, seed=self.seed)

    @cached_property
    def speakers(self) -> tuple[dict[str, list[int]], ...]:
        """For each source the clips of each speaker."""
        tables = []
        for source in self.sources:
            clips: dict[str, list[int]] = defaultdict(list)
            for i, speaker in enumerate(source.speakers):
                clips[speaker].append(i)
            tables.append(dict(clips))
        return tuple(tables)

    def check(self) -> None:
        """DataError where the first clip of a source lacks what these settings need; before anything is trained."""
        for source in self.sources:
            clip = source[0]
            self._mel(clip)
            if self.with_video:
                self._latents(clip)
                self._caption(clip.caption)

    def batch(self, spec: StepSpec, sample_indices: Sequence[int]) -> Batch:
        """The clips with the global sample numbers `numbers`; DataError where one does not fit."""
        locations = [self.sampler.locate(number) for number in sample_indices]
        clips = [self.sources[d.source][d.index] for d in locations]
        transcripts = [self._transcript(clip) for clip in clips]
        references = None
        reference_transcripts: list[Transcript | None] = [None] * len(clips)
        if spec.reference_tokens:
            pairs = [
                self._reference(d.source, d.index, number, spec.reference_tokens)
                for d, number in zip(locations, sample_indices, strict=True)
            ]
            references = torch.stack([values for values, _ in pairs])
            reference_transcripts = [transcript for _, transcript in pairs]
        reference_tokens = 0 if references is None else references.shape[1]
        captions = torch.stack([self._caption(clip.caption) for clip in clips])
        empty = torch.stack([self._caption(self.sources[d.source].empty_caption) for d in locations])
        return Batch(
            spec=spec,
            mel=torch.stack([self._mel(clip) for clip in clips]),
            text=self._texts(
                captions, transcripts, reference_transcripts, reference_tokens, timed=spec.given_tokens == 0
            ),
            uncond_text=self._texts(empty, [None] * len(clips), reference_transcripts, reference_tokens),
            latents=torch.stack([self._latents(clip) for clip in clips]) if self.with_video else None,
            face_mask=self._face_masks(clips) if self.with_video else None,
            reference_audio=references,
        )

    def _transcript(self, clip: Features) -> Transcript:
        if clip.mel.shape[0] <= self.timing.num_audio_tokens:
            return Transcript(clip.text, clip.words)
        words = tuple(word for word in clip.words if word.end_s <= self.timing.duration_s)
        return Transcript(_joined(words), words)

    def _mel(self, clip: Features) -> Float[Tensor, "l mel"]:
        length = self.timing.num_audio_tokens
        if clip.mel.shape[0] < length:
            raise DataError(f"'{clip.key}' has {clip.mel.shape[0]} audio tokens, expected {length}; prepare it again")
        return clip.mel[:length].float()

    def _latents(self, clip: Features) -> Float[Tensor, "c f h w"]:
        length = self.timing.num_latent_frames
        if clip.latents is None or clip.latents.shape[1] < length:
            got = "none" if clip.latents is None else clip.latents.shape[1]
            raise DataError(f"'{clip.key}' needs {length} latent frames, it has {got}; prepare it with a video VAE")
        return clip.latents[:, :length].float()

    def _face_masks(self, clips: Sequence[Features]) -> Float[Tensor, "b f n"] | None:
        known = next((clip.face_mask for clip in clips if clip.face_mask is not None), None)
        if known is None:
            return None
        unknown = torch.full_like(known, torch.nan)
        masks = [unknown if clip.face_mask is None else clip.face_mask for clip in clips]
        return torch.stack(masks)[:, : self.timing.num_latent_frames].float()

    def _caption(self, features: Tensor | None) -> Float[Tensor, "m d"]:
        padded = torch.zeros(self.caption.tokens, self.caption.width)
        if features is not None:
            if features.shape[0] > self.caption.tokens or features.shape[1] != self.caption.width:
                raise DataError(
                    f"caption features of {tuple(features.shape)} do not fit the model's "
                    f"{self.caption.tokens} tokens of width {self.caption.width}; prepare the data with its own encoder"
                )
            padded[: features.shape[0]] = features
        return padded

    def _texts(
        self,
        captions: Float[Tensor, "b m d"],
        transcripts: Sequence[Transcript | None],
        reference_transcripts: Sequence[Transcript | None],
        reference_tokens: int,
        timed: bool = True,
    ) -> TextInputs:
        """Returns the texts of clips behind their reference transcripts (`tasks.speech_prompt`).

        transcripts: None in a pass without text.
        timed: whether word times are given. They are unknown in sampling where the audio itself is given.
        """
        prompts = []
        for clip, reference in zip(transcripts, reference_transcripts, strict=True):
            before = None if reference is None else self._timed_text(reference)
            speech = TimedText("") if clip is None else self._timed_text(clip, timed)
            prompts.append(speech_prompt(speech, before, reference_tokens))
        symbols, lengths, times = encode_prompts(prompts, self.symbols)
        return TextInputs(caption=captions, speech=symbols, speech_length=lengths, symbol_timestamps=times)

    def _timed_text(self, transcript: Transcript, timed: bool = True) -> TimedText:
        """Returns a transcript with the times of its characters, where its words have any."""
        if not timed or transcript.text != _joined(transcript.words):
            return TimedText(transcript.text)
        return TimedText(transcript.text, symbol_times(transcript.words, float(self.timing.base.tokens_per_second)))

    def _reference(
        self, source: int, index: int, number: int, length: int
    ) -> tuple[Float[Tensor, "r mel"], Transcript]:
        """Sound of the same speaker out of another clip, and what is said in it: whole words that fit into `length`
        tokens, then silence. A speaker with one clip only refers to that. [Harmony, paper 14.12]"""
        clips = self.sources[source]
        rng = np.random.default_rng([self.seed, _REFERENCE_STREAM, number])
        others = [other for other in self.speakers[source][clips[index].speaker] if other != index] or [index]
        clip = clips[others[int(rng.integers(len(others)))]]
        rate = float(self.timing.base.tokens_per_second)
        first, last = _some_words(clip.words, length / rate, rng)
        start, stop = (round(first * rate), round(last * rate)) if last else (0, length)
        sound = clip.mel[start:stop][:length].float()
        silence = silent_mel(length + reference_silence_tokens(self.timing.base) - sound.shape[0], sound.shape[1])
        if not clip.words:
            return torch.cat([sound, silence]), Transcript(clip.text, ())
        words = tuple(
            Word(text=word.text, start_s=word.start_s - first, end_s=word.end_s - first)
            for word in clip.words
            if word.start_s >= first and word.end_s <= last
        )
        return torch.cat([sound, silence]), Transcript(_joined(words), words)


def _joined(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _some_words(words: Sequence[Word], seconds: float, rng: np.random.Generator) -> tuple[float, float]:
    """Start and end of a run of whole words that lasts at most `seconds`, as long as the drawn first word allows."""
    if not words:
        return 0.0, 0.0
    # A start after which the words would fill less than `seconds` wastes reference audio.
    starts = [word.start_s for word in words if words[-1].end_s - word.start_s >= seconds] or [words[0].start_s]
    start = starts[int(rng.integers(len(starts)))]
    ends = [word.end_s for word in words if word.start_s >= start and word.end_s <= start + seconds]
    return start, max(ends, default=start + seconds)


def silent_mel(tokens: int, bins: int) -> Float[Tensor, "l mel"]:
    """Normalised log-mel of digital silence."""
    return mel.normalise(torch.full((tokens, bins), mel.MEL.log_floor).log())
