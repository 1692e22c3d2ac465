"""The face mask that the model predicts [paper 3.4, eq. (8)] against the rendered truth, on the grid of video tokens.

Letters: F pixel frames, H W pixels, f latent frames, h w grid of a latent frame's video tokens.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float

from uniavgen.data.extract import face_mask_on_grid
from uniavgen.evaluation.clip import DecodedClip
from uniavgen.evaluation.metric import Better, Column, Group, Measurement, Metric
from uniavgen.evaluation.prompts import Prompt
from uniavgen.evaluation.truth import truth_of
from uniavgen.perception.errors import NotMeasured
from uniavgen.timebase import ClipTiming, Timebase

THRESHOLD = 0.5
"""Share of a token from which it belongs to the face. [ours]"""


class FaceMaskIoU(Metric):
    """Overlap of predicted and true face."""

    name = "face_mask"
    group = Group.TRUTH
    columns = (
        Column(
            name="face_mask_iou",
            description="overlap of the face mask that the model predicts with the rendered truth on the token grid, "
            "both cut at 0.5; 0 to 1",
            better=Better.HIGHER,
        ),
    )

    def measure(self, clip: DecodedClip, prompt: Prompt) -> Measurement:
        if clip.face_mask is None:
            raise NotMeasured("there is no predicted face mask (ID.face_mask.npz) beside the clip")
        truth = truth_of(prompt).face_mask
        timing = Timebase().clip(Timebase().frames_in(len(clip.face_mask)))
        if len(truth) < timing.num_frames:
            raise NotMeasured(f"the truth has {len(truth)} frames, the predicted mask {timing.num_frames}")
        expected = truth_on_grid(truth[: timing.num_frames], timing, *clip.face_mask.shape[1:])
        return Measurement(
            scores={"face_mask_iou": intersection_over_union(clip.face_mask >= THRESHOLD, expected >= THRESHOLD)}
        )


def intersection_over_union(predicted: Bool[np.ndarray, "f h w"], truth: Bool[np.ndarray, "f h w"]) -> float:
    """Returns tokens in both over tokens in either; NotMeasured where the truth is empty."""
    if not truth.any():
        raise NotMeasured("the face fills no token by half")
    return float((predicted & truth).sum() / (predicted | truth).sum())


def truth_on_grid(
    face_mask: Bool[np.ndarray, "F H W"], timing: ClipTiming, rows: int, columns: int
) -> Float[np.ndarray, "f h w"]:
    """Returns the share of each token that the face covers, as in training."""
    flat = face_mask_on_grid(face_mask, timing, rows, columns).numpy()
    return rearrange(flat, "f (h w) -> f h w", h=rows)
