"""Losses of a stage: velocities of what was noisy [paper eq. (1), (2)], face masks [paper 3.4], durations of speech
symbols and the motion of mouths [ours].

Masks and truths are expected on the CPU: whether and where a loss is defined depends on their values, and reading
values from a GPU would wait for it. What is compared with a prediction is moved beside it.

Letters: b batch, s latent frames or audio tokens of the clip, f latent frames, m speech symbols, n video tokens of a
frame, p cells around a mouth, k indices.
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
    """The parts of the loss; None where a part is not defined for the task or the batch."""

    video: Float[Tensor, ""] | None = None
    audio: Float[Tensor, ""] | None = None
    face_mask: Float[Tensor, ""] | None = None
    duration: Float[Tensor, ""] | None = None
    lip_motion: Float[Tensor, ""] | None = None

    def total(self, weights: LossWeights, step: int, num_steps: int) -> Float[Tensor, ""]:
        """Returns the weighted sum that is minimised."""
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
        """Returns the parts that are defined, by name."""
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
    mask: Float[Tensor, " s"],
    dim: int,
    weights: Float[Tensor, "b ..."] | None = None,
) -> Float[Tensor, ""] | None:
    """Returns mean w (v_predicted - v_target)^2 / mean w over the places along `dim` where `mask` is 1.

    None where there is no such place, as for a branch that is given. [paper eq. (1), (2); weights ours]

    weights: w of each place, see `face_weights`; None for equal ones.
    """
    places = mask.nonzero()[:, 0]
    if len(places) == 0:
        return None
    places = _beside(places, predicted)
    square = (predicted.float().index_select(dim, places) - target.float().index_select(dim, places)).square()
    if weights is None:
        return square.mean()
    chosen = weights.index_select(dim, places)
    return (square * chosen).mean() / chosen.mean()


def face_weights(
    truth: Float[Tensor, "b f n"], losses: LossWeights, rows: int, columns: int
) -> Float[Tensor, "b 1 f rows columns"]:
    """Returns w = 1 + face_focus m + mouth_focus m [below the face's centre] for each cell of a latent frame.

    m is the share of face in a cell, taken as 0 in clips whose face is not known. The mouth lies in the lower half of a
    face. [ours]
    """
    patch = math.isqrt(rows * columns // truth.shape[2])
    face = rearrange(truth.nan_to_num(0.0), "b f (h w) -> b f h w", h=rows // patch)
    row = torch.arange(face.shape[2], device=face.device)[:, None].to(face)
    centre = (face * row).sum(dim=(2, 3), keepdim=True) / face.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    weights = 1 + losses.face_focus * face + losses.mouth_focus * face * (row > centre)
    return weights.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)[:, None]


def face_mask_loss(masks: Float[Tensor, "b layers f n"], truth: Float[Tensor, "b f n"]) -> Float[Tensor, ""] | None:
    """Returns L^m = sum over layers of mean (M_predicted - M_true)^2, averaged over clips with a known face.

    Clips whose truth is NaN, or that show no face, do not count; None if no clip counts. [paper 3.4; reduction ours]
    """
    # NaN > 0 is false.
    clips = (truth.flatten(1).sum(dim=1) > 0).nonzero()[:, 0]
    if len(clips) == 0:
        return None
    known = _beside(truth.float().index_select(0, clips), masks)
    difference = masks.float().index_select(0, _beside(clips, masks)) - known.unsqueeze(1)
    return difference.square().mean(dim=(2, 3)).sum(dim=1).mean()


def duration_loss(durations: Float[Tensor, "b m"], timestamps: Float[Tensor, "b m"]) -> Float[Tensor, ""] | None:
    """Returns mean (d_i - (t_i - t_(i-1)))^2 in audio tokens, over symbols where both timestamps are known. [ours]

    None where there is no such symbol. Unknown timestamps are NaN.
    """
    true_durations = timestamps.diff(dim=1).flatten()
    symbols = (~true_durations.isnan()).nonzero()[:, 0]
    if len(symbols) == 0:
        return None
    predicted = durations[:, 1:].flatten().index_select(0, _beside(symbols, durations))
    return (predicted - _beside(true_durations[symbols], durations)).square().mean()


def lip_motion_loss(
    error: Float[Tensor, "b c f h w"],
    clean: Float[Tensor, "b c f h w"],
    mask: Float[Tensor, " f"],
    truth: Float[Tensor, "b f n"],
    probe: LinearMouthProbe,
) -> Float[Tensor, ""] | None:
    """Returns sum (u . e)^2 / sum (u . x)^2 over the frames of all clips; a still mouth scores 1. [ours]

    x are the clean latents around the mouth and e the errors of the predicted ones, both less their mean over the
    frames of the clip. u is the direction of the clip's latents that correlates most with the mouth's opening, as
    `probe` reads it: u ~ sum over frames of (opening x).

    mask: 1 for frames whose velocity is learned. Of these, frames with a known face count, in clips that have several
    of them; None where there are none.
    """
    known = (truth.sum(dim=2) > 0) & (mask > 0)
    known = known & (known.sum(dim=1, keepdim=True) > 1)
    if not bool(known.any()):
        return None
    counts, truth = _beside(known.float()[..., None], clean), _beside(truth, clean)

    def centred(values: Float[Tensor, "b f p"]) -> Float[Tensor, "b f p"]:
        mean = (values * counts).sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True).clamp(min=1)
        return (values - mean) * counts

    motion = centred(mouth_crops(clean.float(), truth))
    direction = F.normalize(torch.einsum("b f, b f p -> b p", probe.read(motion), motion), dim=1)
    missed = torch.einsum("b f p, b p -> b f", centred(mouth_crops(error.float(), truth)), direction)
    present = torch.einsum("b f p, b p -> b f", motion, direction)
    return missed.square().sum() / present.square().sum().clamp(min=1e-6)


def _beside(values: Tensor, other: Tensor) -> Tensor:
    return values.to(other.device, non_blocking=True)
