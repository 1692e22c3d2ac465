"""Encodes a data set once, by the frozen codecs, into the features that training reads; resumes where it stopped.

Samples that cannot be used are left out and listed with their reasons in `skipped.jsonl` beside the features.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load as load_tensors

from uniavgen.arguments import check_arguments
from uniavgen.artifacts import checksum, record_settings, write_text
from uniavgen.codecs.video_vae import VideoCodec
from uniavgen.data.extract import FeatureExtractor, empty_caption_parts
from uniavgen.data.features import EMPTY_CAPTION, SETTINGS_FILE, TENSORS_PART
from uniavgen.data.open_index import begin_features, finish_features
from uniavgen.data.shards import ShardSet, ShardWriter
from uniavgen.data.sources import SampleSource, open_sources
from uniavgen.data_engine.executors import Executor, InProcess, Outcome
from uniavgen.errors import ConfigError, DataError
from uniavgen.models.config import TransformerConfig
from uniavgen.timebase import ClipTiming, Timebase
from uniavgen.workflows.codec_fingerprints import fingerprint_codecs
from uniavgen.workflows.encode_clips import ClipEncoder, FitRule
from uniavgen.workflows.load_codecs import load_codecs
from uniavgen.workflows.vocabulary import load_speech_symbols

SKIPPED_FILE: Final = "skipped.jsonl"
SAMPLES_PER_SHARD: Final = 1024
"""So that 41 million utterances are in 40 thousand files. [ours]"""
MAX_FRAMES: Final = 9601
"""Ten minutes at 16 frames a second. [ours]"""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """What features are made of, besides the model's sizes and the codecs."""

    num_frames: int | tuple[int, ...] = 81
    """Pixel frames of a clip, 1 + 4n; longer clips are cut. Of several lengths a clip with video gets the longest that
    it fills, speech alone the shortest that holds it."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Widths and heights in pixels that clips may have; that of the first clip where empty."""
    fit: FitRule = FitRule.EXACT
    """What happens to a clip of another size than `sizes`."""
    vocabulary: Path | None = None
    """File of the model's speech symbols, one a line; None for printable ASCII."""
    verbatim: bool = False
    """Leaves figures, signs and abbreviations in transcripts as they are written."""
    limit: int | None = None
    """Number of samples that are taken, from the first on; all if it is None."""

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"the limit is at least 1, got {self.limit}")
        wrong = next((length for length in self.lengths if not 1 <= length <= MAX_FRAMES), None)
        if wrong is not None or not self.lengths:
            raise ConfigError(f"a clip has 1 to {MAX_FRAMES} frames, got {'no length' if wrong is None else wrong}")
        if self.fit is FitRule.CROP and not self.sizes:
            raise ConfigError("clips are cropped to the sizes that are named, and none is; name some with --size")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Returns the numbers of frames that a clip may have, the shortest first."""
        return tuple(sorted({*((self.num_frames,) if isinstance(self.num_frames, int) else self.num_frames)}))


@dataclass(frozen=True, kw_only=True)
class SkippedSample:
    """A sample that is left out of the features."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PreparedFeatures:
    """What a folder of features holds of a data set."""

    num_clips: int
    skipped: tuple[SkippedSample, ...]
    num_overlong: int
    """New clips that were cut although the times of their words are unknown: their transcript may say too much."""


@dataclass(frozen=True, kw_only=True)
class EncodedClip:
    """A sample as features."""

    parts: Mapping[str, bytes]
    is_overlong: bool
    """Whether it was cut although the times of its words are unknown."""


@dataclass(kw_only=True)
class EncodeTask:
    """Encodes samples by their keys. Sent to another process, it opens the data and loads the codecs there."""

    data: tuple[str | Path, ...]
    model: TransformerConfig
    settings: FeatureSettings
    codecs: Path | None
    device: str
    first_size: tuple[int, int] | None = None
    """Width and height that all clips have where the settings name no sizes; that of the first one if it is None."""

    def __call__(self, key: str) -> EncodedClip:
        """Returns the features of a sample. Raises DataError where it cannot be used."""
        encoder = self.encoder
        encoder.first_size, before = self.first_size, encoder.num_overlong
        parts = encoder(key, self.source.read).to_parts()
        self.first_size = encoder.first_size
        return EncodedClip(parts=parts, is_overlong=encoder.num_overlong > before)

    def __getstate__(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def depends_on_order(self) -> bool:
        """Returns whether the next clip decides the size of all others."""
        return self.codecs is not None and not self.settings.sizes and self.first_size is None

    @cached_property
    def source(self) -> SampleSource:
        """Opens the data."""
        return open_sources(self.data, self._lengths[-1], with_video=self.codecs is not None)

    @cached_property
    def encoder(self) -> ClipEncoder:
        """Loads the codecs."""
        timebase, patch = self.model.timebase, self.model.video.patch[1]
        return ClipEncoder(
            extract=_build_extractor(timebase, patch, self.codecs, self.device),
            symbols=load_speech_symbols(self.settings.vocabulary, self.model.audio.speech.num_symbols),
            verbatim=self.settings.verbatim,
            lengths=self._lengths,
            sizes=self.settings.sizes,
            fit=self.settings.fit,
        )

    @property
    def _lengths(self) -> tuple[ClipTiming, ...]:
        return tuple(self.model.timebase.clip(num_frames) for num_frames in self.settings.lengths)


def prepare_features(
    data: Sequence[str | Path],
    folder: Path,
    model: TransformerConfig,
    settings: FeatureSettings,
    *,
    codecs: Path | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PreparedFeatures:
    """Encodes the clips of `data` into feature shards in `folder`.

    Args:
        data: folders of shards or their URLs, single shards, folders of speech with an index.jsonl, or published speech
            sets (`data.speech_sets`); their clips follow each other.
        codecs: model folder with vae, text_encoder and tokenizer; None prepares speech alone.
        executor: where clips are encoded, here if it is None; the features are the same.
        on_progress: called with the counts of finished and of all samples.

    Raises DataError where a key occurs twice, no clip can be used, or the folder holds features of other codecs,
    symbols or another length. Samples that cannot be used for themselves are skipped.
    """
    if settings.sizes and codecs is None:
        raise ConfigError("speech alone has no picture size; give the model folder with a video autoencoder (--parts)")
    task = EncodeTask(data=tuple(data), model=model, settings=settings, codecs=codecs, device=device)
    names, keys = " and ".join(map(str, data)), task.source.keys[: settings.limit]
    if not keys:
        raise DataError(f"{names} holds no sample of {settings.lengths[-1]} frames; give shards or speech")
    with ShardWriter(folder, SAMPLES_PER_SHARD) as writer:
        recorded = _recorded_settings(settings, model, codecs)
        _check_settings(folder, recorded, has_features=bool(writer.keys))
        task.first_size = _stored_frame_size(folder, task.encoder.extract)
        caption = None if writer.keys else task.encoder.extract.caption
        empty_caption = None if caption is None else empty_caption_parts(caption)
        skipped: list[SkippedSample] = []
        missing = [key for key in keys if key == EMPTY_CAPTION or key not in writer.keys]
        is_begun, num_overlong, done = False, 0, len(keys) - len(missing)
        on_progress(done, len(keys))
        for outcome in _encoded(task, missing, executor or InProcess()):
            if outcome.result is None:
                skipped.append(SkippedSample(key=outcome.job, reason=outcome.reason))
            else:
                if not is_begun:
                    begin_features(folder)
                    is_begun = True
                if not writer.keys:
                    record_settings(folder / SETTINGS_FILE, recorded)
                    if empty_caption is not None:
                        writer.write(EMPTY_CAPTION, empty_caption)
                writer.write(outcome.job, outcome.result.parts)
                num_overlong += outcome.result.is_overlong
            done += 1
            on_progress(done, len(keys))
        writer.finish_shard()
        if writer.keys:
            finish_features(folder)
    num_clips = len(keys) - len(skipped)
    if not num_clips:
        raise DataError(f"none of the {len(keys)} samples in {names} can be used, first {skipped[0].reason}")
    _write_skipped(folder, skipped)
    return PreparedFeatures(num_clips=num_clips, skipped=tuple(skipped), num_overlong=num_overlong)


def _encoded(task: EncodeTask, keys: Sequence[str], executor: Executor) -> Iterator[Outcome[str, EncodedClip]]:
    """Yields the clips in order; those before their size is known are encoded here."""
    if isinstance(executor, InProcess):
        yield from executor.map(task, keys, in_order=True)
        return
    begun = 0
    while begun < len(keys) and task.depends_on_order:
        yield from InProcess().map(task, keys[begun : begun + 1])
        begun += 1
    # Each worker loads the codecs; here they would only take memory.
    del task.encoder
    yield from executor.map(task, keys[begun:], in_order=True)


def _recorded_settings(settings: FeatureSettings, model: TransformerConfig, codecs: Path | None) -> dict[str, Any]:
    """Returns what the features of a folder depend on; settings that came later are left out at their defaults."""
    recorded: dict[str, Any] = {
        "num_frames": settings.lengths[0] if len(settings.lengths) == 1 else settings.lengths,
        "patch": model.video.patch[1],
        "codecs": fingerprint_codecs(codecs),
    }
    if settings.vocabulary is not None:
        recorded["vocabulary"] = checksum(settings.vocabulary)
    if settings.verbatim:
        recorded["verbatim"] = True
    if settings.sizes:
        recorded["sizes"] = sorted(f"{width}x{height}" for width, height in settings.sizes)
    if settings.fit is not FitRule.EXACT:
        recorded["fit"] = settings.fit.value
    return recorded


def _check_settings(folder: Path, recorded: dict[str, Any], has_features: bool) -> None:
    """Raises DataError where a folder that holds features was made with other settings."""
    path = folder / SETTINGS_FILE
    if not has_features:
        path.unlink(missing_ok=True)
    elif not path.is_file():
        raise DataError(f"{folder} holds shards but no {SETTINGS_FILE}; name another --out or delete it")
    else:
        record_settings(path, recorded)


def _stored_frame_size(folder: Path, extract: FeatureExtractor) -> tuple[int, int] | None:
    """Returns width and height of the frames of which a folder holds features; None where it holds none of video."""
    if extract.video is None or not any(folder.glob("*.tar")):
        return None
    stored = ShardSet(folder)
    clips = (i for i, key in enumerate(stored.keys) if key != EMPTY_CAPTION)
    latents = next((load_tensors(stored.read(i, TENSORS_PART))["latents"] for i in clips), None)
    stride = extract.video.spatial_stride
    return None if latents is None else (latents.shape[3] * stride, latents.shape[2] * stride)


def _write_skipped(folder: Path, skipped: list[SkippedSample]) -> None:
    """Writes a line of JSON for each sample that was left out; no file where there is none."""
    if skipped:
        rows = [json.dumps({"key": sample.key, "reason": sample.reason}) for sample in skipped]
        write_text(folder / SKIPPED_FILE, "\n".join(rows) + "\n")
    else:
        (folder / SKIPPED_FILE).unlink(missing_ok=True)


def _build_extractor(base: Timebase, patch: int, folder: Path | None, device: str) -> FeatureExtractor:
    if folder is None:
        return FeatureExtractor(base=base, patch=patch)
    codecs = load_codecs(folder, device)
    return FeatureExtractor(base=base, patch=patch, video=VideoCodec(codecs.vae), caption=codecs.caption_encoder)
