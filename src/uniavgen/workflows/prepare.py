"""Encodes a data set once, by the frozen codecs, into the features that training reads; resumes where it stopped."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from uniavgen.artifacts import record_settings
from uniavgen.codecs.video_vae import VideoCodec
from uniavgen.data.extract import FeatureExtractor, empty_caption_parts
from uniavgen.data.features import EMPTY_CAPTION
from uniavgen.data.shards import ShardWriter
from uniavgen.data.sources import open_source
from uniavgen.errors import DataError
from uniavgen.models.config import TransformerConfig
from uniavgen.timebase import ClipTiming
from uniavgen.workflows.load_codecs import load_codecs

SETTINGS_FILE: Final = "features.json"
_HASHED_BYTES: Final = 1 << 20


def prepare_features(
    data: Path,
    folder: Path,
    model: TransformerConfig,
    *,
    codecs: Path | None = None,
    num_frames: int = 81,
    device: str = "cpu",
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Encodes the clips of `data` into feature shards in `folder` and returns how many clips those hold of it.

    Args:
        data: folder of shards, or of speech with an index.jsonl.
        codecs: model folder with vae, text_encoder and tokenizer; None prepares speech alone.
        limit: number of clips to take; None takes all.
        on_progress: called with the counts of finished and of all clips.

    Raises DataError where the folder holds features of other codecs or another length.
    """
    timing = model.timebase.clip(num_frames)
    source = open_source(data, timing)
    keys = source.keys[:limit]
    extract = _build_extractor(timing, model.video.patch[1], codecs, device)
    with ShardWriter(folder) as writer:
        settings = folder / SETTINGS_FILE
        if not writer.keys:
            settings.unlink(missing_ok=True)
        elif not settings.is_file():
            raise DataError(f"{folder} holds shards but no {SETTINGS_FILE}; name another --out or delete it")
        record_settings(
            settings, {"num_frames": num_frames, "patch": extract.patch, "codecs": _fingerprint_codecs(codecs)}
        )
        if extract.caption is not None and EMPTY_CAPTION not in writer.keys:
            writer.write(EMPTY_CAPTION, empty_caption_parts(extract.caption))
        missing = [key for key in keys if key not in writer.keys]
        on_progress(len(keys) - len(missing), len(keys))
        for done, key in enumerate(missing, start=len(keys) - len(missing) + 1):
            writer.write(key, extract(source.read(key)).to_parts())
            on_progress(done, len(keys))
    return len(keys)


def _fingerprint_codecs(folder: Path | None) -> str:
    """Returns a SHA-256 over name, size and first MiB of each file of the codecs; whole weights take minutes."""
    digest = hashlib.sha256()
    names = ("vae", "text_encoder", "tokenizer")
    files = [] if folder is None else sorted(file for name in names for file in (folder / name).rglob("*.*"))
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(_HASHED_BYTES))
    return digest.hexdigest()


def _build_extractor(timing: ClipTiming, patch: int, folder: Path | None, device: str) -> FeatureExtractor:
    if folder is None:
        return FeatureExtractor(timing=timing, patch=patch)
    codecs = load_codecs(folder, device)
    return FeatureExtractor(timing=timing, patch=patch, video=VideoCodec(codecs.vae), caption=codecs.caption_encoder)
