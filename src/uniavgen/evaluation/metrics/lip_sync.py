"""LS: SyncNet's confidence and distance (LSE-C, LSE-D), at 25 frames a second on face crops. [paper 4.2]"""

from functools import cached_property

from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric, audible_waveform
from uniavgen.evaluation.prompts import Prompt
from uniavgen.perception.face_mesh import MESH_NETWORKS, MESH_PACKAGES
from uniavgen.perception.syncnet_scorer import SYNCNET_PACKAGES, SyncNetScorer


class SyncNetLipSync(Metric):
    """Lips against sound by the published network."""

    name = "lip_sync"
    group = Group.PAPER
    required_networks = (*MESH_NETWORKS, "syncnet")
    packages = MESH_PACKAGES | SYNCNET_PACKAGES
    columns = (
        Column(
            name="ls",
            description="SyncNet confidence (LSE-C): how much nearer lips and sound are at their best shift than at "
            "others; real speech has 6 to 8, chance is near 1; experimental: never run with the published weights",
            better=Better.HIGHER,
        ),
        Column(
            name="lse_d",
            description="SyncNet distance (LSE-D) of lips and sound at their best shift; real speech has 6 to 8; "
            "experimental: never run with the published weights",
            better=Better.LOWER,
        ),
        Column(
            name="sync_offset_ms",
            description="shift of the sound at which SyncNet finds lips and sound nearest; positive where sound is "
            "early; experimental: never run with the published weights",
            better=Better.NEITHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        del prompt
        waveform = audible_waveform(clip)
        boxes = self.context.faces.landmarks(clip.frames).boxes
        confidence, distance, offset_ms = self._scorer.score(clip.frames, clip.fps, boxes, waveform)
        return Measurement(scores={"ls": confidence, "lse_d": distance, "sync_offset_ms": offset_ms})

    @cached_property
    def _scorer(self) -> SyncNetScorer:
        return SyncNetScorer(self.context.weights["syncnet"].path, self.context.device)
