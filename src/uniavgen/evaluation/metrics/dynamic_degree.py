"""DD: does the picture move, by RAFT's optical flow, as VBench defines it. [paper 4.2; VBench, dynamic degree]

Frames about 8 a second; a step moves where the fastest 5 % of its pixels are faster than 6 pixels of a 256 px short
side; a clip is dynamic where a quarter of its frames move. The score of a clip is 0 or 1.
"""

from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import UInt8

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.loading import load_weights
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement
from uniavgen.evaluation.metrics.motion import fastest
from uniavgen.evaluation.networks import Weights
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.raft import Raft

NETWORK = "raft"
SAMPLED_FPS = 8
COLUMNS = (
    Column(
        name="dd",
        description="dynamic degree as VBench defines it (RAFT): 1 where the clip moves, 0 where it does not",
        better=Better.HIGHER,
    ),
)


class DynamicDegree:
    """Moves or stands."""

    columns = COLUMNS
    settings = NOTHING

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.networks = {NETWORK: weights}
        self._device = device

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        frames = clip.frames[:: max(1, round(clip.fps / SAMPLED_FPS))]
        speeds = [self._speed(a, b) for a, b in pairwise(frames)]
        return Measurement(
            scores={"dd": float(is_dynamic(speeds, clip.fps, min(clip.frames.shape[1:3])))},
            details={"flow of the fastest 5 %, px": [round(speed, 3) for speed in speeds]},
        )

    @torch.no_grad()
    def _speed(self, first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"]) -> float:
        pair = [torch.from_numpy(f.copy()).permute(2, 0, 1)[None].float().to(self._device) for f in (first, second)]
        return fastest(self._network(*pair)[0].norm(dim=0).cpu().numpy())

    @cached_property
    def _network(self) -> Raft:
        return load_weights(Raft(), self.networks[NETWORK].path, "RAFT", prefix="module.").to(self._device)


def is_dynamic(speeds: list[float], fps: Fraction, short_side_px: int) -> bool:
    """VBench's rule for the speeds of a clip's steps."""
    least = 6.0 * (short_side_px / 256) * max(1.0, SAMPLED_FPS / float(fps))
    # Of the frames, of which there is one more than steps.
    needed = round(4 * (len(speeds) + 1) / 16)
    return sum(speed > least for speed in speeds) >= needed
