"""How much moves: optical flow by OpenCV's DIS. [ours] It stands beside the paper's dynamic degree, not for it."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from uniavgen.evaluation.clip import Clip
from uniavgen.evaluation.metric import NOTHING, Better, Column, Measurement
from uniavgen.evaluation.packages import needed
from uniavgen.evaluation.prompts import Prompt

WIDTH_PX = 512
"""Frames are measured at this width; flow is told for 1024. [ours]"""
TOLD_PX = 1024
FASTEST_SHARE = 0.05
"""Share of the pixels that count: the fastest ones. [VBench, dynamic degree]"""
COLUMNS = (
    Column(
        name="motion",
        description="mean over frames of the optical flow (DIS) of the fastest 5 % of the pixels, in pixels a frame at "
        "16 frames a second and 1024 px width; talking people have 3 to 11",
        better=Better.NEITHER,
    ),
)


class Motion:
    """Speed of what moves most."""

    columns = COLUMNS
    networks = settings = NOTHING

    def measure(self, clip: Clip, prompt: Prompt) -> Measurement:
        del prompt
        cv2 = needed("cv2", "motion", "opencv-python-headless")
        flow: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        height = max(round(clip.frames.shape[1] * WIDTH_PX / clip.frames.shape[2]), 16)
        speeds = []
        before: UInt8[np.ndarray, "H W"] | None = None
        for frame in clip.frames:
            grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
            if before is not None:
                speeds.append(fastest(np.linalg.norm(flow.calc(before, grey, None), axis=-1)))
            before = grey
        a_frame = float(clip.fps) / 16 * TOLD_PX / WIDTH_PX
        return Measurement(scores={"motion": float(np.mean(speeds)) * a_frame})


def fastest(speed: np.ndarray) -> float:
    """Mean of the fastest 5 % of a picture of speeds."""
    count = max(int(speed.size * FASTEST_SHARE), 1)
    return float(np.partition(speed.ravel(), -count)[-count:].mean())
