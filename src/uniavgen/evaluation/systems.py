"""What is evaluated: a model behind a function, and two measures of what could be reached, truth and codec.

Letters: F pixel frames, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8

from uniavgen.codecs.video_vae import VideoCodec
from uniavgen.evaluation.face_mask import truth_on_grid
from uniavgen.evaluation.metric import MadeClip, TruthClip
from uniavgen.timebase import ClipTiming


@dataclass(frozen=True, kw_only=True)
class ModelSystem:
    """A model, as a function of the clip whose picture and the clip whose sound it gets."""

    name: str
    description: str
    generate: Callable[[TruthClip, TruthClip], MadeClip]
    shuffled: bool = False
    kept: bool = True

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        return self.generate(clip, driver)


@dataclass(frozen=True, kw_only=True)
class TruthSystem:
    """The driver's own clip and mask: the ceiling of the measurement, or, shuffled, what chance gives."""

    name: str
    description: str
    timing: ClipTiming
    grid: tuple[int, int]
    """Rows and columns of video tokens in a latent frame."""
    shuffled: bool = False
    kept: bool = False

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        del clip
        mask = truth_on_grid(driver, self.timing, *self.grid)
        return MadeClip(frames=driver.frames, waveform=driver.waveform, face_mask=mask)


@dataclass(frozen=True, kw_only=True)
class CodecSystem:
    """The clip through the video autoencoder and back: no model that uses this autoencoder can do better."""

    name: str
    description: str
    codec: VideoCodec
    side_px: int
    """Side of the pictures that the autoencoder was trained on."""
    shuffled: bool = False
    kept: bool = True

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        del clip
        pixels = to_pixels(driver.frames, self.side_px, self.codec.spatial_stride)
        decoded = self.codec.decode(self.codec.encode(pixels.to(self.codec.vae.device)))
        frames = ((decoded[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
        return MadeClip(frames=rearrange(frames, "rgb F H W -> F H W rgb").numpy(), waveform=driver.waveform)


def to_pixels(
    frames: UInt8[np.ndarray, "F height width 3"], side_px: int, multiple: int
) -> Float[torch.Tensor, "1 3 F H W"]:
    """Frames in [-1, 1], shorter side `side_px`, the other a multiple of `multiple`."""
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "F H W rgb -> F rgb H W").float() / 127.5 - 1
    height, width = frames.shape[1:3]
    scale = side_px / min(height, width)
    size = [max(round(side * scale / multiple), 1) * multiple for side in (height, width)]
    if size != [height, width]:
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return rearrange(pixels, "F rgb H W -> 1 rgb F H W")
