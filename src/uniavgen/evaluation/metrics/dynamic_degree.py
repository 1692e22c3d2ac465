"""DD: whether the frames move, by RAFT's optical flow, as VBench defines it. [paper 4.2; VBench, dynamic degree]

Frames are sampled about 8 a second; a step moves where the mean of the fastest 5 % of its pixels exceeds 6 pixels of a
256 px short side; a clip is dynamic where a quarter of its frames move. The score of a clip is 0 or 1.
"""

from fractions import Fraction
from functools import cached_property

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.optical_flow import RaftFlow

SAMPLED_FPS = 8


class DynamicDegree(Metric):
    """1 for a clip that moves, 0 for one that does not."""

    name = "dynamic_degree"
    group = Group.PAPER
    required_networks = ("raft",)
    columns = (
        Column(
            name="dd",
            description="dynamic degree as VBench defines it (RAFT): 1 where the clip moves, 0 where it does not; "
            "experimental: never run with the published weights",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        speeds = self._flow.speeds(clip.frames[:: max(1, round(clip.fps / SAMPLED_FPS))])
        return Measurement(
            scores={"dd": float(is_dynamic(speeds, clip.fps, min(clip.frames.shape[1:3])))},
            details={"flow of the fastest 5 %, px": [round(speed, 3) for speed in speeds]},
        )

    @cached_property
    def _flow(self) -> RaftFlow:
        return RaftFlow(self.context.weights["raft"].path, self.context.device)


def is_dynamic(speeds: list[float], fps: Fraction, short_side_px: int) -> bool:
    """Applies VBench's rule to the speeds of a clip's steps."""
    threshold = 6.0 * (short_side_px / 256) * max(1.0, SAMPLED_FPS / float(fps))
    # A quarter of the frames, of which there is one more than steps.
    needed_steps = round(4 * (len(speeds) + 1) / 16)
    return sum(speed > threshold for speed in speeds) >= needed_steps
