"""Clips for the video autoencoder: frames of a folder of shards, with a weight for each pixel."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8

from uniavgen.config import Config, NonNegative
from uniavgen.data.extract import mouth_region
from uniavgen.data.sample import read_sample
from uniavgen.data.shards import ShardSet
from uniavgen.errors import DataError
from uniavgen.timebase import Timebase


@dataclass(frozen=True, kw_only=True)
class WeightedFrames:
    """The frames of one clip, and the weight of each pixel."""

    frames: UInt8[np.ndarray, "F H W 3"]
    weights: Float[np.ndarray, "F H W"]


@dataclass(frozen=True, kw_only=True)
class RegionWeights(Config):
    """Weight of a pixel: 1, plus `face` inside the face, plus `mouth` around the mouth."""

    face: NonNegative = 0.7
    mouth: NonNegative = 1.3


class WeightedClips:
    """The video clips of a folder of shards at `size_px`, decoded when they are read; the latest stay in memory."""

    def __init__(self, folder: Path, size_px: int, regions: RegionWeights, keep_clips: int = 512) -> None:
        self._shards = ShardSet(folder)
        self._clips = [i for i in range(len(self._shards)) if "mp4" in self._shards.parts(i)]
        if not self._clips:
            raise DataError(f"{folder} holds no clip with video (KEY.mp4); give one that `uniavgen synth` wrote")
        self._size_px = size_px
        self._regions = regions
        self.read = functools.lru_cache(maxsize=keep_clips)(self._read)

    def __len__(self) -> int:
        return len(self._clips)

    def _read(self, clip: int) -> WeightedFrames:
        sample = read_sample(self._shards, self._clips[clip], Timebase())
        assert sample.frames is not None
        frames = _resized(sample.frames, self._size_px)
        weights = np.ones(frames.shape[:3], np.float32)
        if sample.face_mask is not None:
            face = _resized(sample.face_mask[..., None].astype(np.uint8) * 255, self._size_px)[..., 0] > 127
            weights += self._regions.face * face + self._regions.mouth * mouth_region(face)
        return WeightedFrames(frames=frames, weights=weights)


def _resized(frames: UInt8[np.ndarray, "F H W c"], size_px: int) -> UInt8[np.ndarray, "F size size c"]:
    if frames.shape[1:3] == (size_px, size_px):
        return frames
    if frames.shape[1] != frames.shape[2] or frames.shape[1] < size_px:
        height, width = frames.shape[1:3]
        raise DataError(f"frames must be square and at least {size_px} px wide, got {width}x{height}")
    planes = rearrange(torch.from_numpy(frames).float(), "F H W c -> F c H W")
    small = F.interpolate(planes, size=(size_px, size_px), mode="area")
    return rearrange(small.round().to(torch.uint8), "F c H W -> F H W c").numpy()
