"""Speed of what moves most: optical flow by OpenCV's DIS, or by RAFT as VBench uses it.

Letters: F frames, H W pixels.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from uniavgen.perception.loading import load_published
from uniavgen.perception.packages import require
from uniavgen.perception.raft import Raft

DIS_PACKAGES = {"cv2": "opencv-python-headless"}
DIS_WIDTH_PX = 512
"""Width at which DIS measures. [ours]"""
FASTEST_SHARE = 0.05
"""Share of the pixels that count: the fastest ones. [VBench, dynamic degree]"""


def dis_speeds(frames: UInt8[np.ndarray, "F H W 3"]) -> list[float]:
    """Returns the speed of each step from frame to frame, in pixels at a width of DIS_WIDTH_PX."""
    cv2: Any = require("cv2", "motion", "opencv-python-headless")
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    size = (DIS_WIDTH_PX, max(round(frames.shape[1] * DIS_WIDTH_PX / frames.shape[2]), 16))
    greys = (
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for frame in frames
    )
    return [mean_of_fastest(np.linalg.norm(flow.calc(a, b, None), axis=-1)) for a, b in pairwise(greys)]


class RaftFlow:
    """RAFT with published weights."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self._network, self._device = load_published(Raft(), path, "RAFT", prefix="module.").to(device), device

    @torch.no_grad()
    def speeds(self, frames: UInt8[np.ndarray, "F H W 3"]) -> list[float]:
        """Returns the speed of each step from frame to frame in pixels."""
        images = [torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float().to(self._device) for frame in frames]
        return [mean_of_fastest(self._network(a, b)[0].norm(dim=0).cpu().numpy()) for a, b in pairwise(images)]


def mean_of_fastest(speed: Float[np.ndarray, "H W"]) -> float:
    """Returns the mean of the fastest 5 % of the pixels."""
    count = max(int(speed.size * FASTEST_SHARE), 1)
    return float(np.partition(speed.ravel(), -count)[-count:].mean())
