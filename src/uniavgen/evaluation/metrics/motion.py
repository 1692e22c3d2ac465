"""How much moves: optical flow by OpenCV's DIS. [ours] It stands beside the paper's dynamic degree, not for it."""

import numpy as np

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.optical_flow import DIS_PACKAGES, DIS_WIDTH_PX, dis_speeds

REPORTED_WIDTH_PX, REPORTED_FPS = 1024, 16


class Motion(Metric):
    """Speed of what moves most."""

    name = "motion"
    group = Group.OPEN
    packages = DIS_PACKAGES
    columns = (
        Column(
            name="motion",
            description="mean over frames of the optical flow (DIS) of the fastest 5 % of the pixels, in pixels a "
            "frame at 16 frames a second and 1024 px width; talking people have 3 to 11",
            better=Better.NEITHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        scale = float(clip.fps) / REPORTED_FPS * REPORTED_WIDTH_PX / DIS_WIDTH_PX
        return Measurement(scores={"motion": float(np.mean(dis_speeds(clip.frames))) * scale})
