"""What a step is judged by: velocities of what was noisy [paper eq. (1), (2)], face masks [paper 3.4], the foretold
pace of speech, and how mouths move [ours].

Letters: b batch, s latent frames or audio tokens of the clip, f latent frames, m speech symbols, n video tokens of a
frame, p cells around a mouth.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.training.config import LossWeights
from uniavgen.training.mouth_probe import LinearMouthProbe, mouth_crops


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Named parts, None where a task learns nothing of one."""

    video: Float[Tensor, ""] | None = None
    audio: Float[Tensor, ""] | None = None
    face_mask: Float[Tensor, ""] | None = None
    duration: Float[Tensor, ""] | None = None
    lip_motion: Float[Tensor, ""] | None = None

    def total(self, weights: LossWeights, step: int, num_steps: int) -> Float[Tensor, ""]:
        """The weighted sum that is minimised; the only place where parts meet."""
        weighted = [
            (self.video, weights.video),
            (self.audio, weights.audio),
            (self.face_mask, weights.face_mask.at(step, num_steps)),
            (self.duration, weights.duration),
            (self.lip_motion, weights.lip_motion),
        ]
        # A weight of 0 leaves its part out: the mask head then learns from the velocities only.
        return torch.stack([weight * part for part, weight in weighted if part is not None and weight != 0]).sum()

    def named(self) -> dict[str, Tensor]:
        """The parts there are."""
        parts = {
            "video": self.video,
            "audio": self.audio,
            "face_mask": self.face_mask,
            "duration": self.duration,
            "lip_motion": self.lip_motion,
        }
        return {name: part for name, part in parts.items() if part is not None}


def velocity_loss(
    predicted: Float[Tensor, "b ..."],
    target: Float[Tensor, "b ..."],
    carries: Float[Tensor, " s"],
    dim: int,
    weights: Float[Tensor, "b ..."] | None = None,
) -> Float[Tensor, ""] | None:
    """Mean square error over the places along `dim` where `carries` is 1; None where there is no such place.

    weights: of each place (`face_weights`); alike where None.
    """
    learned = carries.nonzero()[:, 0]
    if len(learned) == 0:
        return None
    square = (predicted.float().index_select(dim, learned) - target.float().index_select(dim, learned)).square()
    if weights is None:
        return square.mean()
    chosen = weights.index_select(dim, learned)
    return (square * chosen).mean() / chosen.mean()


def face_weights(
    truth: Float[Tensor, "b f n"], losses: LossWeights, rows: int, columns: int
) -> Float[Tensor, "b 1 f rows columns"]:
    """For each cell of a latent picture 1, plus the focus on faces times the share of face, plus the focus on mouths
    where that face lies below its own centre; 1 in clips whose face is not known."""
    patch = math.isqrt(rows * columns // truth.shape[2])
    face = rearrange(truth.nan_to_num(0.0), "b f (h w) -> b f h w", h=rows // patch)
    row = torch.arange(face.shape[2], device=face.device)[:, None].to(face)
    centre = (face * row).sum(dim=(2, 3), keepdim=True) / face.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    grid = 1 + losses.face_focus * face + losses.mouth_focus * face * (row > centre)
    return grid.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)[:, None]


def face_mask_loss(masks: Float[Tensor, "b layers f n"], truth: Float[Tensor, "b f n"]) -> Float[Tensor, ""] | None:
    """L^m: mean over a clip's tokens, sum over layers, mean over clips with a known face. [paper 3.4; reduction ours]

    Clips whose truth is NaN, or shows no face at all, do not count; None where that is all of them.
    """
    known = truth.flatten(1).sum(dim=1) > 0
    if not bool(known.any()):
        return None
    difference = masks.float()[known] - truth.float()[known].unsqueeze(1)
    return difference.square().mean(dim=(2, 3)).sum(dim=1).mean()


def duration_loss(pace: Float[Tensor, "b m"], times: Float[Tensor, "b m"]) -> Float[Tensor, ""] | None:
    """Mean square error, in audio tokens, from one symbol to the next where the times of both are known. [ours]

    None where they nowhere are.
    """
    told = times.diff(dim=1)
    known = ~told.isnan()
    if not bool(known.any()):
        return None
    return (pace[:, 1:] - told)[known].square().mean()


def lip_motion_loss(
    error: Float[Tensor, "b c f h w"],
    clean: Float[Tensor, "b c f h w"],
    carries: Float[Tensor, " f"],
    truth: Float[Tensor, "b f n"],
    reader: LinearMouthProbe,
) -> Float[Tensor, ""] | None:
    """How much of the mouths' movement is missed: over the frames of each clip, along the direction in which its own
    latents change as its mouth opens, squared error over squared movement; 1 for mouths that keep still. [ours]

    error: of the predicted clean latents. Frames with a known face count, and clips with several of them; None where
    there are none.
    """
    known = (truth.sum(dim=2) > 0) & (carries > 0)
    known = (known & (known.sum(dim=1, keepdim=True) > 1)).float()[..., None]
    if not bool(known.any()):
        return None

    def moved(values: Float[Tensor, "b f d"]) -> Float[Tensor, "b f d"]:
        mean = (values * known).sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp(min=1)
        return (values - mean) * known

    around = moved(mouth_crops(clean.float(), truth))
    pattern = F.normalize(torch.einsum("b f, b f p -> b p", reader.read(around), around), dim=1)
    missed = torch.einsum("b f p, b p -> b f", moved(mouth_crops(error.float(), truth)), pattern)
    movement = torch.einsum("b f p, b p -> b f", around, pattern)
    return missed.square().sum() / movement.square().sum().clamp(min=1e-6)
