"""What is evaluated: a model behind a function, and two measures of what could be reached, truth and codec.

Letters: F pixel frames, H W pixels, H2 W2 after resizing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from uniavgen.codecs.video_vae import VideoCodec, to_frames, to_pixels
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
        return MadeClip(frames=driver.frames, waveform=driver.waveform, face_mask=mask, begins_as=driver)


@dataclass(frozen=True, kw_only=True)
class CodecSystem:
    """The clip through the video autoencoder and back: no model that uses this autoencoder can do better."""

    name: str
    description: str
    codec: VideoCodec
    resize: Callable[[UInt8[np.ndarray, "F H W 3"]], UInt8[np.ndarray, "F H2 W2 3"]]
    """To the model's picture size."""
    shuffled: bool = False
    kept: bool = True

    def make(self, clip: TruthClip, driver: TruthClip) -> MadeClip:
        del clip
        pixels = to_pixels(torch.from_numpy(self.resize(driver.frames))[None])
        decoded = self.codec.decode(self.codec.encode(pixels.to(self.codec.vae.device)))
        return MadeClip(frames=to_frames(decoded)[0].cpu().numpy(), waveform=driver.waveform)
