"""Do lips and voice agree in time: a small network of our own, in the manner of SyncNet. [ours; SyncNet: Chung 2016]

Lips and sound become a stream of unit vectors each, 50 a second, of which every one sees about 0.4 s. Where they
belong together they are near. The distance of the streams, one shifted against the other, has its least value at the
offset; confidence is how far that is below the median, distance is the value itself.

Letters: F frames, s side, n m steps of 20 ms, d embedding, k shifts, b batch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.readers.blocks import Ripple, picture_features
from uniavgen.evaluation.readers.hearing import LIPS_MEL, MELS_PER_S, mel
from uniavgen.evaluation.readers.locator import FacePath, to_tensor
from uniavgen.evaluation.readers.storing import load, shipped

COMMAND = "train-reader sync"
STEPS_PER_S = MELS_PER_S // 2
"""Of both streams."""
MAX_SHIFT = 25
"""Steps either way: 500 ms. [ours]"""
LEAST_OVERLAP = 25
"""Steps that must overlap at the largest shift. [ours]"""
LIPS_PX, LIPS_SHARE, LIPS_BELOW = 48, 0.8, 0.27
"""The square around the mouth: its side in pixels, side and distance below the middle in sizes of the face. [ours]"""
FEATURES, WIDTH, EMBEDDING = 48, 64, 32


class LipReader(nn.Module):
    """One square around a mouth to what its lips do: grey, so that lipstick and skin matter less."""

    def __init__(self) -> None:
        super().__init__()
        self.features = picture_features(1, 48, 10)
        self.lips = nn.Linear(10 * (LIPS_PX // 8) ** 2, FEATURES)

    def forward(self, squares: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b features"]:
        """Values in [-1, 1] to numbers of about unit size."""
        return self.lips(rearrange(self.features(squares), "b c h w -> b (c h w)"))


class SyncReader(nn.Module):
    """Lips and sound to two streams of unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.lip_reader = LipReader()
        self.seen = nn.Sequential(
            nn.Conv1d(FEATURES, WIDTH, 5, padding=2), Ripple(WIDTH, 1), Ripple(WIDTH, 2), *_unit_head()
        )
        self.heard = nn.Sequential(
            nn.Conv1d(LIPS_MEL.num_mel, WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=1),
            Ripple(WIDTH, 1),
            Ripple(WIDTH, 2),
            *_unit_head(),
        )

    def see(self, lips: Float[Tensor, "b features n"]) -> Float[Tensor, "b d n"]:
        """Stream of lip features that `on_steps` gave."""
        return F.normalize(self.seen(lips), dim=1)

    def hear(self, log_mel: Float[Tensor, "b mel l"]) -> Float[Tensor, "b d n"]:
        """Stream of log-mel frames that `level` gave; `n = l // 2`."""
        return F.normalize(self.heard(log_mel), dim=1)

    @torch.no_grad()
    def watch(self, frames: UInt8[np.ndarray, "F H W 3"], fps: float, where: FacePath) -> Float[np.ndarray, "n d"]:
        """Stream of the lips of a clip."""
        squares = grey(to_tensor(where.squares(frames, LIPS_PX, LIPS_SHARE, LIPS_BELOW)))
        lips = torch.cat([self.lip_reader(part) for part in squares.split(64)])
        return self.see(on_steps(lips, fps)[None])[0].T.numpy()

    @torch.no_grad()
    def listen(self, waveform: Float32[np.ndarray, " samples"]) -> Float[np.ndarray, "n d"]:
        """Stream of 16 kHz sound."""
        return self.hear(level(torch.from_numpy(mel(waveform, LIPS_MEL)).T[None]))[0].T.numpy()

    @classmethod
    def load(cls, path: Path | None = None) -> "SyncReader":
        """The reader stored at `path`, or the one shipped in the package; CheckpointError if it is none."""
        return load(cls(), path or shipped("sync_reader"), "sync reader", COMMAND)


def _unit_head() -> tuple[nn.Module, ...]:
    return nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Conv1d(WIDTH, EMBEDDING, 1)


def grey(pictures: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1 s s"]:
    """Brightness. [Rec. 601]"""
    return (pictures * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def on_steps(lips: Float[Tensor, "F features"], fps: float) -> Float[Tensor, "features n"]:
    """Features of frames at the middle of every 20 ms, about their mean over the clip, at about unit spread.

    What belongs to the person and the picture goes away with the mean. The spread has a floor, so that a face that
    never moves stays near zero.
    """
    lips = (lips - lips.mean(dim=0)) / (lips.std(dim=0, correction=0) + 0.3)
    count = int(len(lips) / fps * STEPS_PER_S)
    place = ((torch.arange(count) + 0.5) / STEPS_PER_S * fps - 0.5).clamp(0, len(lips) - 1)
    first = place.long().clamp(max=max(len(lips) - 2, 0))
    share = (place - first)[:, None]
    return (lips[first] * (1 - share) + lips[(first + 1).clamp(max=len(lips) - 1)] * share).T


def level(log_mel: Float[Tensor, "b mel l"]) -> Float[Tensor, "b mel l"]:
    """Log-mel frames about their mean over the clip and at unit scale: loudness and microphone go away."""
    return (log_mel - log_mel.mean(dim=2, keepdim=True)) / 2


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well sound fits pictures, for every shift between them."""

    distances: Float[np.ndarray, " k"]
    """Mean Euclidean distance of unit vectors where the sound is taken 500 ms earlier to 500 ms later, by 20 ms."""

    @property
    def offset_ms(self) -> float:
        """How much too early the sound comes, as SyncNet's sign has it. Finer than a step by a parabola."""
        best = int(self.distances.argmin())
        return -1000 / STEPS_PER_S * (best - MAX_SHIFT + _vertex(self.distances, best))

    @property
    def distance(self) -> float:
        """At the best shift, 0 to 2."""
        return float(self.distances.min())

    @property
    def confidence(self) -> float:
        """How far the best shift's distance is below the median of all."""
        return float(np.median(self.distances) - self.distances.min())

    @property
    def at_zero(self) -> float:
        """How far the distance as played is below the median of all."""
        return float(np.median(self.distances) - self.distances[MAX_SHIFT])


def agreement(seen: Float[np.ndarray, "n d"], heard: Float[np.ndarray, "m d"]) -> Agreement:
    """Distances of two streams; NotMeasured where they are too short for the largest shift."""
    shared = min(len(seen), len(heard))
    if shared < MAX_SHIFT + LEAST_OVERLAP:
        least = (MAX_SHIFT + LEAST_OVERLAP) / STEPS_PER_S
        raise NotMeasured(f"{shared / STEPS_PER_S:.2f} s of pictures with sound; sync needs {least:g} s")
    seen, heard = seen[:shared], heard[:shared]
    distances = []
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        a, b = seen[max(-shift, 0) : shared - max(shift, 0)], heard[max(shift, 0) : shared - max(-shift, 0)]
        distances.append(np.linalg.norm(a - b, axis=1).mean())
    return Agreement(distances=np.array(distances))


def _vertex(values: Float[np.ndarray, " k"], at: int) -> float:
    """Where the parabola through the least value and its neighbours turns, in steps from it."""
    if at in (0, len(values) - 1):
        return 0.0
    before, least, after = values[at - 1 : at + 2]
    bend = before - 2 * least + after
    return float(0.5 * (before - after) / bend) if bend > 1e-9 else 0.0
