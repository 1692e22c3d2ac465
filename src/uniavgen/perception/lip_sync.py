"""Whether lips and voice agree in time, by a small network of our own like SyncNet. [ours; SyncNet: Chung 2016]

Lips and sound become one stream of unit vectors each, 50 a second, whose elements see about 0.4 s. Where they belong
together they are near. The mean distance of the streams, one shifted against the other, is least at their offset;
confidence is how far that minimum lies below the median over all shifts.

Letters: F frames, s side, n m steps of 20 ms, l mel frames, d embedding, k shifts, b batch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.perception.errors import NotMeasured
from uniavgen.perception.face_track import FaceTrack
from uniavgen.perception.frames import to_tensor
from uniavgen.perception.layers import DilatedConvBlock, image_features
from uniavgen.perception.loading import load_own, shipped_weights
from uniavgen.perception.voice_features import LIP_SYNC_MEL, MELS_PER_S, waveform_log_mel

COMMAND = "train-reader sync"
STEPS_PER_S = MELS_PER_S // 2
"""Of both streams."""
MAX_SHIFT = 25
"""Steps either way: 500 ms. [ours]"""
MIN_OVERLAP = 25
"""Steps that overlap at the largest shift. [ours]"""
MOUTH_PX, MOUTH_SHARE, MOUTH_BELOW = 48, 0.8, 0.27
"""The square around the mouth: its side in pixels, its side and its distance below the face's middle in sizes of the
face. [ours]"""
FEATURES, WIDTH, EMBEDDING = 48, 64, 32


class LipEncoder(nn.Module):
    """One square around a mouth to features of its lips: grey, so that lipstick and skin matter less."""

    def __init__(self) -> None:
        super().__init__()
        self.features = image_features(1, 48, 10)
        self.lips = nn.Linear(10 * (MOUTH_PX // 8) ** 2, FEATURES)

    def forward(self, squares: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b features"]:
        """Maps values in [-1, 1] to numbers of about unit size."""
        return self.lips(rearrange(self.features(squares), "b c h w -> b (c h w)"))


class LipSyncEncoder(nn.Module):
    """Lips and sound to two streams of unit vectors."""

    # The names of the layers are those of the shipped weights.
    def __init__(self) -> None:
        super().__init__()
        self.lip_reader = LipEncoder()
        self.seen = nn.Sequential(
            nn.Conv1d(FEATURES, WIDTH, 5, padding=2),
            DilatedConvBlock(WIDTH, 1),
            DilatedConvBlock(WIDTH, 2),
            *_embedding_head(),
        )
        self.heard = nn.Sequential(
            nn.Conv1d(LIP_SYNC_MEL.num_mel, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=1),
            DilatedConvBlock(WIDTH, 1),
            DilatedConvBlock(WIDTH, 2),
            *_embedding_head(),
        )

    def embed_lips(self, lips: Float[Tensor, "b features n"]) -> Float[Tensor, "b d n"]:
        """Embeds lip features as `resample_lips` returns them."""
        return F.normalize(self.seen(lips), dim=1)

    def embed_mel(self, log_mel: Float[Tensor, "b mel l"]) -> Float[Tensor, "b d n"]:
        """Embeds log-mel frames as `normalize_mel` returns them; `n = l // 2`."""
        return F.normalize(self.heard(log_mel), dim=1)

    @torch.no_grad()
    def embed_video(
        self, frames: UInt8[np.ndarray, "F H W 3"], fps: float, track: FaceTrack
    ) -> Float[np.ndarray, "n d"]:
        """Returns the stream of the lips of a clip."""
        squares = to_grey(to_tensor(track.crops(frames, MOUTH_PX, MOUTH_SHARE, MOUTH_BELOW)))
        lips = torch.cat([self.lip_reader(part) for part in squares.split(64)])
        return self.embed_lips(resample_lips(lips, fps)[None])[0].T.numpy()

    @torch.no_grad()
    def embed_waveform(self, waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, "n d"]:
        """Returns the stream of a 16 kHz waveform."""
        log_mel = torch.from_numpy(waveform_log_mel(waveform, LIP_SYNC_MEL))
        return self.embed_mel(normalize_mel(log_mel.T[None]))[0].T.numpy()

    @classmethod
    def load(cls, path: Path | None = None) -> "LipSyncEncoder":
        """Loads the network at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load_own(cls(), path or shipped_weights("sync_reader"), "sync reader", COMMAND)


def _embedding_head() -> tuple[nn.Module, ...]:
    return nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Conv1d(WIDTH, EMBEDDING, 1)


def to_grey(images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1 s s"]:
    """Returns the luma. [Rec. 601]"""
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def resample_lips(lips: Float[Tensor, "F features"], fps: float) -> Float[Tensor, "features n"]:
    """Standardises features over the clip and interpolates them to the middle of every 20 ms.

    Subtracting the clip's mean removes what belongs to the person and the picture. The floor of 0.3 under the standard
    deviation keeps a face that never moves near zero.
    """
    lips = (lips - lips.mean(dim=0)) / (lips.std(dim=0, correction=0) + 0.3)
    count = int(len(lips) / fps * STEPS_PER_S)
    place = ((torch.arange(count) + 0.5) / STEPS_PER_S * fps - 0.5).clamp(0, len(lips) - 1)
    first = place.long().clamp(max=max(len(lips) - 2, 0))
    share = (place - first)[:, None]
    return (lips[first] * (1 - share) + lips[(first + 1).clamp(max=len(lips) - 1)] * share).T


def normalize_mel(log_mel: Float[Tensor, "b mel l"]) -> Float[Tensor, "b mel l"]:
    """Subtracts the mean over the clip, which removes loudness and microphone, and scales to about unit size."""
    return (log_mel - log_mel.mean(dim=2, keepdim=True)) / 2


@dataclass(frozen=True, kw_only=True)
class LipSyncScores:
    """How well sound fits the frames, for every shift between them."""

    distances: Float[np.ndarray, " k"]
    """Mean Euclidean distance of unit vectors, for sound moved earlier by 500 ms to later by 500 ms, in steps of
    20 ms."""

    @property
    def offset_ms(self) -> float:
        """Returns how much too early the sound comes, as SyncNet's sign has it; a parabola refines the step."""
        best = int(self.distances.argmin())
        return -1000 / STEPS_PER_S * (best - MAX_SHIFT + parabola_vertex(self.distances, best))

    @property
    def distance(self) -> float:
        """Returns the distance at the best shift, 0 to 2."""
        return float(self.distances.min())

    @property
    def confidence(self) -> float:
        """Returns median over all shifts - minimum."""
        return float(np.median(self.distances) - self.distances.min())

    @property
    def confidence_unshifted(self) -> float:
        """Returns median over all shifts - distance as played."""
        return float(np.median(self.distances) - self.distances[MAX_SHIFT])


def compare_streams(lips: Float[np.ndarray, "n d"], sound: Float[np.ndarray, "m d"]) -> LipSyncScores:
    """Measures the distance of two streams at every shift; NotMeasured where they are too short for the largest."""
    shared = min(len(lips), len(sound))
    if shared < MAX_SHIFT + MIN_OVERLAP:
        needed_s = (MAX_SHIFT + MIN_OVERLAP) / STEPS_PER_S
        raise NotMeasured(f"{shared / STEPS_PER_S:.2f} s of pictures with sound; sync needs {needed_s:g} s")
    a, b = lips[:shared], sound[:shared]
    distances = []
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        overlap_a = a[max(-shift, 0) : shared - max(shift, 0)]
        overlap_b = b[max(shift, 0) : shared - max(-shift, 0)]
        distances.append(np.linalg.norm(overlap_a - overlap_b, axis=1).mean())
    return LipSyncScores(distances=np.array(distances))


def parabola_vertex(values: Float[np.ndarray, " k"], at: int) -> float:
    """Returns the vertex of the parabola through the least value and its neighbours, in steps from it."""
    if at in (0, len(values) - 1):
        return 0.0
    before, least, after = values[at - 1 : at + 2]
    curvature = before - 2 * least + after
    return float(0.5 * (before - after) / curvature) if curvature > 1e-9 else 0.0
