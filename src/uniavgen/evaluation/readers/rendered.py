"""Rendered clips as networks of ours learn from them. [ours]"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from scipy import signal

from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.evaluation.clip import SPEECH_RATE_HZ
from uniavgen.evaluation.readers.locator import FacePath
from uniavgen.evaluation.truth import TruthClip, iterate_truth
from uniavgen.timebase import Timebase

FPS = float(Timebase().fps)


def rendered_clips(folders: Sequence[str], limit: int | None = None) -> Iterator[TruthClip]:
    """Clips of folders of shards, the first `limit` of each; a folder's clips are as long as its first."""
    for folder in folders:
        shards = ShardSet(folder)
        if not len(shards):
            raise DataError(f"{folder} holds no clips; render some with `uniavgen synth`")
        with np.load(io.BytesIO(shards.read(0, "npz"))) as truth:
            frames = len(truth["mouth_opening"])
        yield from iterate_truth(folder, Timebase().clip(frames), min(limit or len(shards), len(shards)))


def count_clips(folders: Sequence[str], limit: int | None = None) -> int:
    """How many `rendered_clips` gives."""
    return sum(min(limit or len(shards), len(shards)) for shards in map(ShardSet, folders))


def true_path(clip: TruthClip) -> FacePath:
    """Where the face is, by the true masks."""
    return FacePath.of(clip.truth.face_mask.astype(np.float32), FPS)


def arkit_of(clip: TruthClip) -> Float32[np.ndarray, "F shapes"]:
    """Weights of the ARKit shapes (`synth.arkit`) in every frame; DataError for clips that do not say."""
    with np.load(io.BytesIO(clip.npz)) as stored:
        if "arkit" not in stored:
            raise DataError(
                f"sample '{clip.sample.key}' does not say how its face moves; use clips of `uniavgen synth`"
            )
        return stored["arkit"][: len(clip.frames)].astype(np.float32)


def at_speech_rate(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples2"]:
    """Sound of the world at 16 kHz."""
    return signal.resample_poly(waveform, SPEECH_RATE_HZ, Timebase.sample_rate_hz).astype(np.float32)
