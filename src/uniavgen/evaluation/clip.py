"""A clip of any system as the metrics see it, and the folder it lies in.

Letters: F pixel frames, H W pixels, f latent frames, h w grid of a latent frame's video tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from uniavgen.artifacts import decode_npz, os_error_text, path_exists
from uniavgen.errors import DataError, MediaError
from uniavgen.media.reader import open_media
from uniavgen.media.video import check_video, decode_video
from uniavgen.perception.sound import SPEECH_RATE_HZ, is_silent

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MAX_S = 30.0
"""Longer clips are not measured: they would not fit into memory as frames. [ours]"""
MIN_FRAMES, MIN_FPS, MAX_FPS = 5, 8, 120
"""Less than SyncNet's window of 5 frames shows no motion; speech cannot be read below 8 pictures a second. [ours]"""


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """One decoded clip; frame 0 and sample 0 belong to the same time."""

    path: Path
    frames: UInt8[np.ndarray, "F H W 3"]
    fps: Fraction
    waveform: Float32[np.ndarray, " samples"] | None
    """Mono in [-1, 1] at SPEECH_RATE_HZ; None without a sound track."""
    face_mask: Float[np.ndarray, "f h w"] | None = None
    """Where the system believes the face is, in [0, 1] on its token grid; None where it says nothing."""

    @cached_property
    def is_silent(self) -> bool:
        """Returns whether nothing can be heard, also for want of a sound track."""
        return self.waveform is None or is_silent(self.waveform)


def mask_file(path: Path) -> Path:
    """Returns where the face mask that a system predicts lies beside its clip."""
    return path.with_name(f"{path.stem}.face_mask.npz")


def read_clip(path: Path) -> DecodedClip:
    """Decodes a clip, and the predicted mask beside it if there is one; MediaError for what cannot be measured."""
    with open_media(path, name=path.name) as reader:
        stream = check_video(reader)
        fps = stream.average_rate or stream.guessed_rate or Fraction(0)
        if not MIN_FPS <= fps <= MAX_FPS:
            raise MediaError(f"{path.name} has {float(fps):g} frames a second; {MIN_FPS} to {MAX_FPS} are measured")
        max_frames = int(MAX_S * fps)
        video = decode_video(reader, fps, max_frames=max_frames + 1, rate_hz=SPEECH_RATE_HZ, trim=True)
    if len(video.frames) > max_frames:
        raise MediaError(f"{path.name} is longer than {MAX_S:g} s; cut it")
    if len(video.frames) < MIN_FRAMES:
        raise MediaError(f"{path.name} has {len(video.frames)} frames; {MIN_FRAMES} or more are measured")
    return DecodedClip(
        path=path,
        frames=video.frames,
        fps=fps,
        waveform=video.waveform,
        face_mask=_face_mask(mask_file(path)),
    )


@dataclass(frozen=True, kw_only=True)
class ClipFolder:
    """The files of a folder by id."""

    files: Mapping[str, Path]
    ambiguous: Mapping[str, Sequence[Path]]
    """Ids with several files."""


def find_clips(folder: Path) -> ClipFolder:
    """Returns the clips of a folder by the stem of their file; DataError where there is no such folder."""
    if not path_exists(folder) or not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name one with clips ID.mp4")
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            by_stem.setdefault(path.stem, []).append(path)
    return ClipFolder(
        files={name: paths[0] for name, paths in by_stem.items() if len(paths) == 1},
        ambiguous={name: paths for name, paths in by_stem.items() if len(paths) > 1},
    )


def _face_mask(path: Path) -> Float[np.ndarray, "f h w"] | None:
    if not path.is_file():
        return None
    try:
        mask = decode_npz(path.read_bytes(), f"{path.name} beside the clip", MediaError).get("face_mask")
    except OSError as error:
        raise MediaError(f"{path.name} beside the clip cannot be read: {os_error_text(error)}") from error
    if mask is None or mask.ndim != 3 or mask.dtype.kind != "f" or not np.isfinite(mask).all():
        raise MediaError(f"{path.name} beside the clip holds no face_mask of [f, h, w]; delete it or make it again")
    return mask.astype(np.float32)
