"""Encodes a data set once, by the frozen codecs, into the features that training reads; resumes where it stopped.

Samples that cannot be used are left out and listed with their reasons in `skipped.jsonl` beside the features.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from uniavgen.data.sources import open_sources
from uniavgen.errors import ConfigError, DataError
from uniavgen.models.config import TransformerConfig
from uniavgen.timebase import Timebase
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

    def __post_init__(self) -> None:
        check_arguments(self)
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


def prepare_features(
    data: Sequence[Path],
    folder: Path,
    model: TransformerConfig,
    settings: FeatureSettings,
    *,
    codecs: Path | None = None,
    device: str = "cpu",
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PreparedFeatures:
    """Encodes the clips of `data` into feature shards in `folder`.

    Args:
        data: folders of shards, single shards, folders of speech with an index.jsonl, or published speech sets
            (`data.speech_sets`); their clips follow each other.
        codecs: model folder with vae, text_encoder and tokenizer; None prepares speech alone.
        limit: number of samples to take; None takes all.
        on_progress: called with the counts of finished and of all samples.

    Raises DataError where a key occurs twice, no clip can be used, or the folder holds features of other codecs,
    symbols or another length. Samples that cannot be used for themselves are skipped.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"the limit is at least 1, got {limit}")
    if settings.sizes and codecs is None:
        raise ConfigError("speech alone has no picture size; give the model folder with a video autoencoder (--parts)")
    lengths = tuple(model.timebase.clip(num_frames) for num_frames in settings.lengths)
    symbols = load_speech_symbols(settings.vocabulary, model.audio.speech.num_symbols)
    source, names = open_sources(data, lengths[-1], with_video=codecs is not None), " and ".join(map(str, data))
    keys = source.keys[:limit]
    if not keys:
        raise DataError(f"{names} holds no sample of {lengths[-1].num_frames} frames; give shards or speech")
    with ShardWriter(folder, SAMPLES_PER_SHARD) as writer:
        recorded = _recorded_settings(settings, model, codecs)
        _check_settings(folder, recorded, has_features=bool(writer.keys))
        encoder = ClipEncoder(
            extract=_build_extractor(model.timebase, model.video.patch[1], codecs, device),
            symbols=symbols,
            verbatim=settings.verbatim,
            lengths=lengths,
            sizes=settings.sizes,
            fit=settings.fit,
        )
        encoder.first_size = _stored_frame_size(folder, encoder.extract)
        skipped: list[SkippedSample] = []
        missing = [key for key in keys if key == EMPTY_CAPTION or key not in writer.keys]
        is_begun = False
        on_progress(len(keys) - len(missing), len(keys))
        for done, key in enumerate(missing, start=len(keys) - len(missing) + 1):
            try:
                features = encoder(key, source.read)
            except DataError as error:
                skipped.append(SkippedSample(key=key, reason=str(error)))
            else:
                if not is_begun:
                    begin_features(folder)
                    is_begun = True
                if not writer.keys:
                    record_settings(folder / SETTINGS_FILE, recorded)
                    if encoder.extract.caption is not None:
                        writer.write(EMPTY_CAPTION, empty_caption_parts(encoder.extract.caption))
                writer.write(key, features.to_parts())
            on_progress(done, len(keys))
        writer.finish_shard()
        if writer.keys:
            finish_features(folder)
    num_clips = len(keys) - len(skipped)
    if not num_clips:
        raise DataError(f"none of the {len(keys)} samples in {names} can be used, first {skipped[0].reason}")
    _write_skipped(folder, skipped)
    return PreparedFeatures(num_clips=num_clips, skipped=tuple(skipped), num_overlong=encoder.num_overlong)


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
