"""Batches for training: a pure function of the step, so that resuming needs the step's number and nothing else.

Letters: b batch, c latent channels, f latent frames, h w latent grid, l audio tokens, r reference audio tokens,
n video tokens a frame, m caption tokens, d caption width, p speech symbols.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import TextInputs
from uniavgen.codecs import mel
from uniavgen.codecs.speech_symbols import Language, SpeechSymbols
from uniavgen.data.buckets import ClipBuckets
from uniavgen.data.features import Features, FeatureSet
from uniavgen.data.sampler import ClipLocation
from uniavgen.data.words import Word, joined_words, symbol_times
from uniavgen.errors import DamagedClipError, DataError
from uniavgen.tasks.given_lengths import reference_silence_tokens
from uniavgen.tasks.mixture import StepSpec
from uniavgen.tasks.speech_prompt import TimedText, encode_prompts, speech_prompt
from uniavgen.timebase import ClipTiming

_REFERENCE_STREAM = 2
"""Third word of the seed of reference audio; the sampler's draws have 0 and 1."""
_MAX_ATTEMPTS = 16
"""Damaged clips in a row after which a run ends: most of the data must be lost. [ours]"""
_MAX_SHOWN = 5
"""Characters that a message shows."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's clips on one rank, normalised, float32."""

    spec: StepSpec
    """The task and its lengths, one for all clips."""
    mel: Float[Tensor, "b l mel"]
    text: TextInputs
    uncond_text: TextInputs
    """Input of passes without text: the empty caption, and of the speech only the transcript of the reference."""
    latents: Float[Tensor, "b c f h w"] | None = None
    """None for speech alone."""
    face_mask: Float[Tensor, "b f n"] | None = None
    """Target of the face mask on the token grid; NaN in clips without one."""
    reference_audio: Float[Tensor, "b r mel"] | None = None

    epoch: int = 0
    """How often all clips of a bucket were drawn before, in the one of the batch's sources that is farthest."""
    damaged: tuple[str, ...] = ()
    """What is wrong with each clip that was damaged and replaced by another."""

    @property
    def num_read(self) -> int:
        """Clips that were read, with those that were damaged and those of reference audio."""
        return len(self.mel) * (1 if self.reference_audio is None else 2) + len(self.damaged)

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device; from pinned memory the copy overlaps with what the host does next."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Returns the batch in memory from which a GPU copies by itself; a data loader calls it."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        def changed(value: Tensor | None) -> Tensor | None:
            return None if value is None else change(value)

        def texts(text: TextInputs) -> TextInputs:
            return TextInputs(
                caption=change(text.caption),
                speech=change(text.speech),
                speech_length=text.speech_length,
                symbol_timestamps=changed(text.symbol_timestamps),
            )

        return replace(
            self,
            mel=change(self.mel),
            text=texts(self.text),
            uncond_text=texts(self.uncond_text),
            latents=changed(self.latents),
            face_mask=changed(self.face_mask),
            reference_audio=changed(self.reference_audio),
        )


@dataclass(frozen=True)
class Transcript:
    """A transcript and the times of its words since the audio begins; no words where times are unknown."""

    text: str
    words: tuple[Word, ...]


@dataclass(frozen=True, kw_only=True)
class CaptionSize:
    """Size to which caption features are padded with zeros. [release]"""

    tokens: int
    width: int


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Clips of several feature sets, mixed, cut to the length of their bucket, with reference audio and symbols."""

    sources: tuple[FeatureSet, ...]
    clips: ClipBuckets
    """Of `sources`. Longer clips are cut; their transcript then holds the words spoken before the cut."""
    seed: int
    symbols: SpeechSymbols
    """Those of the model."""
    caption: CaptionSize
    with_video: bool
    """False for training the audio branch alone: no latents are read."""

    def check(self) -> None:
        """Raises DataError where a source has captions that do not fit the model."""
        for source in self.sources:
            if self.with_video:
                self._caption(source.example.caption)

    def check_transcripts(self) -> None:
        """Raises DataError where a transcript has characters that the model cannot say."""
        for source in self.sources:
            found = source.index.characters()
            language = self.symbols.language_of(*found)
            unknown = [character for character in found if self.symbols.unknown_characters(character, language)]
            if unknown:
                shown = " ".join(map(repr, unknown[:_MAX_SHOWN])) + (" ..." if len(unknown) > _MAX_SHOWN else "")
                count = max(found[character].num_clips for character in unknown)
                key = source.index.key(min(found[character].first_clip for character in unknown))
                raise DataError(
                    f"{'at least ' * (len(unknown) > 1)}{count} of {len(source)} clips in {source.folder} have "
                    f"characters that the model cannot say: {shown}, first '{key}'; prepare them again with the "
                    "model's own --vocab"
                )

    def batch(self, spec: StepSpec, sample_indices: Sequence[int]) -> Batch:
        """Returns the clips with these global sample numbers, which belong to one step or at least to one bucket.

        A damaged clip is replaced by one that follows from its sample number and the number of the attempt.
        """
        damaged: list[str] = []
        drawn_clips = [self._clip(index, damaged) for index in sample_indices]
        locations, clips = [location for location, _ in drawn_clips], [clip for _, clip in drawn_clips]
        (bucket,) = {location.bucket for location in locations}
        timing = self.clips.buckets[bucket].timing
        transcripts = [_transcript(clip, timing) for clip in clips]
        references = None
        reference_transcripts: list[Transcript | None] = [None] * len(clips)
        if spec.reference_tokens:
            drawn = [
                self._reference(location, index, spec.reference_tokens, damaged)
                for location, index in zip(locations, sample_indices, strict=True)
            ]
            references = torch.stack([log_mel for log_mel, _ in drawn])
            reference_transcripts = [transcript for _, transcript in drawn]
        reference_tokens = 0 if references is None else references.shape[1]
        languages = [
            self.symbols.language_of(*(text.text for text in texts if text is not None))
            for texts in zip(transcripts, reference_transcripts, strict=True)
        ]
        captions = torch.stack([self._caption(clip.caption) for clip in clips])
        empty = torch.stack([self._caption(self.sources[location.source].empty_caption) for location in locations])
        return Batch(
            spec=spec,
            mel=torch.stack([clip.mel[: timing.num_audio_tokens].float() for clip in clips]),
            text=self._texts(
                captions, transcripts, reference_transcripts, reference_tokens, languages, timed=spec.given_tokens == 0
            ),
            uncond_text=self._texts(empty, [None] * len(clips), reference_transcripts, reference_tokens, languages),
            latents=torch.stack([_latents(clip, timing) for clip in clips]) if self.with_video else None,
            face_mask=_face_masks(clips, timing) if self.with_video else None,
            reference_audio=references,
            epoch=max(location.epoch for location in locations),
            damaged=tuple(damaged),
        )

    def _clip(self, sample_index: int, damaged: list[str]) -> tuple[ClipLocation, Features]:
        """Returns the clip with a global sample number; what is wrong with those it replaces is added to `damaged`."""
        for attempt in range(_MAX_ATTEMPTS):
            location = self.clips.locate(sample_index, attempt)
            try:
                return location, self.sources[location.source][location.index]
            except DamagedClipError as error:
                damaged.append(str(error))
        raise DataError(f"{_MAX_ATTEMPTS} clips in a row cannot be used; the last: {damaged[-1]}")

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
        languages: Sequence[Language],
        timed: bool = True,
    ) -> TextInputs:
        """Returns the texts of clips behind their reference transcripts (`tasks.speech_prompt`).

        transcripts: None in a pass without text.
        timed: whether word times are given. They are unknown in sampling where the audio itself is given.
        """
        prompts = []
        for clip, reference, language in zip(transcripts, reference_transcripts, languages, strict=True):
            before = None if reference is None else self._timed_text(reference, language)
            speech = TimedText([]) if clip is None else self._timed_text(clip, language, timed)
            prompts.append(speech_prompt(speech, before, reference_tokens))
        symbols, lengths, times = encode_prompts(prompts, self.symbols.ids)
        return TextInputs(caption=captions, speech=symbols, speech_length=lengths, symbol_timestamps=times)

    def _timed_text(self, transcript: Transcript, language: Language, timed: bool = True) -> TimedText:
        """Returns the symbols of a transcript with their times, where its words have any and characters are symbols."""
        symbols = self.symbols.split(transcript.text, language)
        if not timed or language is not Language.ENGLISH or transcript.text != joined_words(transcript.words):
            return TimedText(symbols)
        times = symbol_times(transcript.words, float(self.clips.base.tokens_per_second))
        return TimedText(symbols, times if len(times) == len(symbols) else None)

    def _reference(
        self, location: ClipLocation, sample_index: int, num_tokens: int, damaged: list[str]
    ) -> tuple[Float[Tensor, "r mel"], Transcript]:
        """Returns reference audio: mel of another clip of the same speaker, then silence, and its transcript.

        It holds whole words that fit into `num_tokens`. A speaker with one clip is their own reference.
        [Harmony, paper 14.12]
        """
        source = self.sources[location.source]
        rng = np.random.default_rng([self.seed, _REFERENCE_STREAM, sample_index])
        clip = _other_clip(source, location.index, rng, damaged)
        rate = float(self.clips.base.tokens_per_second)
        start_s, end_s = _draw_span(clip.words, num_tokens / rate, rng)
        start, stop = (round(start_s * rate), round(end_s * rate)) if end_s else (0, num_tokens)
        log_mel = clip.mel[start:stop][:num_tokens].float()
        num_silent = num_tokens + reference_silence_tokens(self.clips.base) - log_mel.shape[0]
        reference = torch.cat([log_mel, silent_mel(num_silent, log_mel.shape[1])])
        if not clip.words:
            return reference, Transcript(clip.text, ())
        words = tuple(
            Word(text=word.text, start_s=word.start_s - start_s, end_s=word.end_s - start_s)
            for word in clip.words
            if word.start_s >= start_s and word.end_s <= end_s
        )
        return reference, Transcript(joined_words(words), words)


def _other_clip(source: FeatureSet, i: int, rng: np.random.Generator, damaged: list[str]) -> Features:
    """Draws another clip of the speaker of clip `i`; that clip itself where no other can be used."""
    clips = source.index.clips_of(int(source.index.speaker[i]))
    position, num_others = int(np.searchsorted(clips, i)), len(clips) - 1
    drawn = int(rng.integers(num_others)) if num_others else 0
    for attempt in range(min(num_others, _MAX_ATTEMPTS)):
        other = (drawn + attempt) % num_others
        try:
            return source[int(clips[other + (other >= position)])]
        except DamagedClipError as error:
            damaged.append(str(error))
    return source[i]


def _transcript(clip: Features, timing: ClipTiming) -> Transcript:
    if clip.mel.shape[0] <= timing.num_audio_tokens:
        return Transcript(clip.text, clip.words)
    words = tuple(word for word in clip.words if word.end_s <= timing.duration_s)
    return Transcript(joined_words(words), words)


def _latents(clip: Features, timing: ClipTiming) -> Float[Tensor, "c f h w"]:
    assert clip.latents is not None
    return clip.latents[:, : timing.num_latent_frames].float()


def _face_masks(clips: Sequence[Features], timing: ClipTiming) -> Float[Tensor, "b f n"] | None:
    """Returns the targets of the face mask; None where no clip has one."""
    length = timing.num_latent_frames
    given = next((clip.face_mask for clip in clips if clip.face_mask is not None), None)
    if given is None:
        return None
    missing = torch.full_like(given, torch.nan)
    masks = [missing if clip.face_mask is None else clip.face_mask for clip in clips]
    return torch.stack([mask[:length] for mask in masks]).float()


def _draw_span(words: Sequence[Word], max_s: float, rng: np.random.Generator) -> tuple[float, float]:
    """Returns start and end in s of whole words that last at most `max_s`: as many as the drawn first word allows.

    Both are 0 where the times of the words are unknown.
    """
    if not words:
        return 0.0, 0.0
    # A start after which the words would fill less than `max_s` wastes reference audio.
    starts = [word.start_s for word in words if words[-1].end_s - word.start_s >= max_s] or [words[0].start_s]
    start_s = starts[int(rng.integers(len(starts)))]
    ends = [word.end_s for word in words if word.start_s >= start_s and word.end_s <= start_s + max_s]
    return start_s, max(ends, default=start_s + max_s)


def silent_mel(tokens: int, bins: int) -> Float[Tensor, "l mel"]:
    """Returns the normalised log-mel of digital silence."""
    return mel.normalise(torch.full((tokens, bins), mel.MEL.log_floor).log())
