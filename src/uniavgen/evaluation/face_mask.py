"""The face mask that the model predicts [paper 3.4, eq. (8)] against the rendered truth, on the grid of video tokens.

Letters: f latent frames, h w grid of a latent frame's video tokens.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float

from uniavgen.data.extract import face_mask_on_grid
from uniavgen.evaluation.metric import MadeClip, NotMeasured, TruthClip
from uniavgen.timebase import ClipTiming

THRESHOLD = 0.5
"""A token belongs to the face from here on. [ours]"""


def intersection_over_union(predicted: Bool[np.ndarray, "f h w"], truth: Bool[np.ndarray, "f h w"]) -> float:
    """Tokens of both over tokens of either; NotMeasured where the truth is empty."""
    if not truth.any():
        raise NotMeasured("the face fills no token by half")
    return float((predicted & truth).sum() / (predicted | truth).sum())


def truth_on_grid(truth: TruthClip, timing: ClipTiming, rows: int, columns: int) -> Float[np.ndarray, "f h w"]:
    """Share of each token that the face covers, as in training."""
    flat = face_mask_on_grid(truth.face_mask, timing, rows, columns).numpy()
    return rearrange(flat, "f (h w) -> f h w", h=rows)


class FaceMaskIoU:
    """Does the model know where the face is."""

    name = "face_mask_iou"
    description = "overlap of the predicted face mask with the truth on the token grid, both cut at 0.5; 1 is best"

    def __init__(self, timing: ClipTiming) -> None:
        self._timing = timing

    def score(self, made: MadeClip, truth: TruthClip) -> float:
        if made.face_mask is None:
            raise NotMeasured("this system predicts no face mask")
        expected = truth_on_grid(truth, self._timing, *made.face_mask.shape[1:])
        return intersection_over_union(made.face_mask >= THRESHOLD, expected >= THRESHOLD)
