"""Clips of the synthetic world with their truth, out of folders of shards.

Letters: F pixel frames, H W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from uniavgen.data.sample import Sample, decode_arrays, read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.sound import SPEECH_RATE_HZ
from uniavgen.timebase import Timebase

RENDERED_FPS = float(Timebase().fps)


@dataclass(frozen=True, kw_only=True)
class RenderedTruth:
    """What the renderer knows of a clip, at 16 frames a second (`timebase.Timebase.fps`)."""

    mouth_opening: Float[np.ndarray, " F"]
    """As the renderer drove it, in the renderer's unit."""
    face_mask: Bool[np.ndarray, "F H W"]


@dataclass(frozen=True, kw_only=True)
class RenderedSample:
    """A rendered clip of a folder of shards, with its truth."""

    sample: Sample
    """Cut to the truth's length."""
    truth: RenderedTruth

    @property
    def frames(self) -> UInt8[np.ndarray, "F H W 3"]:
        """Returns as many frames as the truth has."""
        assert self.sample.frames is not None
        return self.sample.frames[: len(self.truth.mouth_opening)]

    @property
    def speech_waveform(self) -> Float32[np.ndarray, " samples"]:
        """Returns the sound at 16 kHz."""
        return resample_to_speech_rate(self.sample.waveform)

    def face_track(self) -> FaceTrack:
        """Returns where the face is, by the true masks; NotMeasured where there is none."""
        return FaceTrack.from_probabilities(self.truth.face_mask.astype(np.float32), RENDERED_FPS)

    def arkit_weights(self) -> Float32[np.ndarray, "F shapes"]:
        """Returns the weights of the ARKit shapes (`synth.arkit`) per frame; DataError for clips without them."""
        if "arkit" not in self.sample.arrays:
            raise DataError(
                f"sample '{self.sample.key}' does not say how its face moves; use clips of `uniavgen synth`"
            )
        return self.sample.arrays["arkit"][: len(self.frames)].astype(np.float32)


def resample_to_speech_rate(waveform: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples2"]:
    """Resamples sound of the world to 16 kHz."""
    # Deferred, so that training without rendered clips starts sooner.
    from scipy import signal

    return signal.resample_poly(waveform, SPEECH_RATE_HZ, Timebase.sample_rate_hz).astype(np.float32)


def read_truth(content: bytes, name: str) -> RenderedTruth:
    """Reads the bytes of an npz; DataError where a part is missing or the file is damaged."""
    return _truth_of(decode_arrays(content, name), name)


def _truth_of(arrays: Mapping[str, np.ndarray], name: str) -> RenderedTruth:
    for part in ("mouth_opening", "face_mask"):
        if part not in arrays:
            raise DataError(f"{name} holds no {part}; use the npz of a rendered clip")
    opening, mask = arrays["mouth_opening"], arrays["face_mask"]
    length = min(len(mask), len(opening))
    return RenderedTruth(mouth_opening=opening[:length], face_mask=mask[:length])


def rendered_samples(folders: Sequence[str], limit: int | None = None) -> Iterator[RenderedSample]:
    """Reads the first `limit` clips of each folder of shards; a folder's clips are as long as its first.

    DataError where a folder is empty, or a clip is too short or has no truth.
    """
    for folder in folders:
        shards = ShardSet(folder)
        if not len(shards):
            raise DataError(f"{folder} holds no clips; render some with `uniavgen synth`")
        num_frames = len(read_truth(shards.read(0, "npz"), f"sample '{shards.keys[0]}'").mouth_opening)
        for index in range(min(limit or len(shards), len(shards))):
            yield _rendered_sample(shards, index, num_frames)


def count_rendered(folders: Sequence[str], limit: int | None = None) -> int:
    """Returns how many clips `rendered_samples` gives."""
    return sum(min(limit or len(shards), len(shards)) for shards in map(ShardSet, folders))


def _rendered_sample(shards: ShardSet, index: int, num_frames: int) -> RenderedSample:
    sample = read_sample(shards, index, Timebase())
    if sample.frames is None or sample.face_mask is None:
        raise DataError(f"sample '{sample.key}' has no video or no face mask; use a folder of `uniavgen synth`")
    truth = _truth_of(sample.arrays, f"sample '{sample.key}'")
    if min(len(sample.frames), len(truth.mouth_opening)) < num_frames:
        raise DataError(
            f"sample '{sample.key}' is shorter than {num_frames} frames; render clips of at least this length"
        )
    truth = RenderedTruth(mouth_opening=truth.mouth_opening[:num_frames], face_mask=truth.face_mask[:num_frames])
    return RenderedSample(sample=sample, truth=truth)
