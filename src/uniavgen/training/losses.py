"""Losses of a stage: velocities of what was noisy [paper eq. (1), (2)], face masks [paper 3.4], durations of speech
symbols and the motion of mouths [ours].

Each is a mean over elements of which a batch may hold few or none, so it is handed on as a sum and a count: the mean of
the means of several processes would not be the mean over all of their clips.

Masks and truths are expected on the CPU: whether and where a loss is defined depends on their values, and reading
values from a GPU would wait for it. What is compared with a prediction is moved beside it.

Letters: b batch, s latent frames or audio tokens of the clip, f latent frames, m speech symbols, n video tokens of a
frame, p cells around a mouth, k indices.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.distributed import SINGLE_PROCESS, ParallelContext
from uniavgen.training.loss_weights import LossWeights
from uniavgen.training.mouth_probe import LinearMouthProbe, mouth_crops


class LossTerm(NamedTuple):
    """A loss that is `sum / count`. `sum` carries the gradient, `count` none."""

    sum: Float[Tensor, ""]
    count: Float[Tensor, ""] | float
    """Elements that were summed, or the sum of their weights; 0 where these clips have no truth for it."""

    @classmethod
    def absent(cls, prediction: Tensor) -> "LossTerm":
        """Returns the term of clips without truth.

        It depends on the prediction all the same, because every process must go through the same backward pass.
        """
        return cls(prediction.sum() * 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The terms of the loss; None where a term is not defined for the task and stage, which all processes share."""

    video: LossTerm | None = None
    audio: LossTerm | None = None
    face_mask: LossTerm | None = None
    duration: LossTerm | None = None
    lip_motion: LossTerm | None = None

    def named(self) -> dict[str, LossTerm]:
        """Returns the terms that are defined, by name."""
        terms = {
            "video": self.video,
            "audio": self.audio,
            "face_mask": self.face_mask,
            "duration": self.duration,
            "lip_motion": self.lip_motion,
        }
        return {name: term for name, term in terms.items() if term is not None}

    def means(self, context: ParallelContext = SINGLE_PROCESS) -> "MeanLosses":
        """Returns sum / count of every term over the clips of all processes, which exchange one small vector."""
        terms = self.named()
        sums = torch.stack([term.sum.detach() for term in terms.values()])
        counts = torch.stack([torch.as_tensor(term.count, dtype=sums.dtype) for term in terms.values()]).to(sums.device)
        if context.world_size > 1:
            everywhere = torch.cat([sums, counts])
            dist.all_reduce(everywhere)
            sums, counts = everywhere.chunk(2)
        counted = counts.clamp(min=torch.finfo(sums.dtype).tiny)
        means = {}
        # Apart from each other, so that a term whose weight is 0 sends no zeros back through its branch.
        for term, name, everywhere_sum, count in zip(terms.values(), terms, sums, counted, strict=True):
            # Sharded training averages gradients over processes: the share of each counts as often as there are some.
            share = context.world_size * term.sum / count
            means[name] = share if context.world_size == 1 else share + (everywhere_sum / count - share).detach()
        return MeanLosses(means, dict(zip(terms, counts.unbind(), strict=True)))

    def shares(self, counts: Mapping[str, Float[Tensor, ""]], context: ParallelContext) -> "MeanLosses":
        """Returns what these clips, a part of those of this process, add to the means.

        Summed over the parts and averaged over processes they are the means, and so are their gradients.

        counts: over all parts of all processes (`total_counts`).
        """
        shares = {}
        for name, (total, _) in self.named().items():
            count = counts[name].to(total.device, non_blocking=True)
            shares[name] = context.world_size * total / count.clamp(min=torch.finfo(total.dtype).tiny)
        return MeanLosses(shares, counts)


def total_counts(parts: Sequence[Losses], context: ParallelContext) -> dict[str, Float[Tensor, ""]]:
    """Returns the counts of all terms over the parts of all processes, on the CPU, where they are exchanged."""
    terms = [part.named() for part in parts]
    counts = [sum(float(part[name].count) for part in terms) for name in terms[0]]
    everywhere = torch.tensor(counts, dtype=torch.float32)
    if context.world_size > 1:
        dist.all_reduce(everywhere)
    return dict(zip(terms[0], everywhere.unbind(), strict=True))


def process_means(values: Float[Tensor, " k"], context: ParallelContext) -> Float[Tensor, " k"]:
    """Returns the means of values over all processes."""
    if context.world_size == 1:
        return values
    summed = values.clone()
    dist.all_reduce(summed)
    return summed / context.world_size


@dataclass(frozen=True)
class MeanLosses:
    """The means of `Losses` over all processes, the same on each.

    The gradient of a mean is the share of this process; averaged over processes it is that of the mean.
    """

    means: Mapping[str, Float[Tensor, ""]]
    """0 where no process has truth for the term."""
    counts: Mapping[str, Float[Tensor, ""]]

    def total(self, weights: LossWeights, step: int, num_steps: int) -> Float[Tensor, ""]:
        """Returns the weighted sum that is minimised; 0, with a gradient of 0, where all weights are 0 at the step."""
        factors = weights.at(step, num_steps)
        # A weight of 0 leaves its term out: the mask head then learns from the velocities only.
        weighted = [factors[name] * mean for name, mean in self.means.items() if factors[name] != 0]
        return torch.stack(weighted or [0 * mean for mean in self.means.values()]).sum()

    def reported(self) -> dict[str, Float[Tensor, ""]]:
        """Returns the means without gradient; NaN where no process has truth for the term."""
        return {
            name: torch.where(self.counts[name].to(mean.device) > 0, mean.detach(), torch.nan)
            for name, mean in self.means.items()
        }


def velocity_loss(
    predicted: Float[Tensor, "b ..."],
    target: Float[Tensor, "b ..."],
    mask: Float[Tensor, " s"],
    dim: int,
    weights: Float[Tensor, "b ..."] | None = None,
) -> LossTerm | None:
    """Returns sum w (v_predicted - v_target)^2 and sum w over the places along `dim` where `mask` is 1.

    None where there is no such place, as for a branch that is given. [paper eq. (1), (2); weights ours]

    weights: w of each place, see `face_weights`; None for equal ones.
    """
    places = mask.nonzero()[:, 0]
    if len(places) == 0:
        return None
    places = _beside(places, predicted)
    square = (predicted.float().index_select(dim, places) - target.float().index_select(dim, places)).square()
    if weights is None:
        return LossTerm(square.sum(), float(square.numel()))
    chosen = weights.index_select(dim, places)
    return LossTerm((square * chosen).sum(), chosen.sum() * (square.numel() / chosen.numel()))


def face_weights(
    truth: Float[Tensor, "b f n"], weights: Mapping[str, float], rows: int, columns: int
) -> Float[Tensor, "b 1 f rows columns"]:
    """Returns w = 1 + face_focus m + mouth_focus m [below the face's centre] for each cell of a latent frame.

    m is the share of face in a cell, taken as 0 in clips whose face is not known. The mouth lies in the lower half of a
    face. [ours]
    """
    patch = math.isqrt(rows * columns // truth.shape[2])
    face = rearrange(truth.nan_to_num(0.0), "b f (h w) -> b f h w", h=rows // patch)
    row = torch.arange(face.shape[2], device=face.device)[:, None].to(face)
    centre = (face * row).sum(dim=(2, 3), keepdim=True) / face.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    of_cells = 1 + weights["face_focus"] * face + weights["mouth_focus"] * face * (row > centre)
    return of_cells.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)[:, None]


def face_mask_loss(masks: Float[Tensor, "b layers f n"], truth: Float[Tensor, "b f n"] | None) -> LossTerm:
    """Returns L^m, summed over clips with a known face, and their number.

    L^m = sum over layers of mean (M_predicted - M_true)^2. Clips whose truth is NaN, or that show no face, do not
    count; None is no truth for any clip. [paper 3.4; reduction ours]
    """
    # NaN > 0 is false.
    clips = None if truth is None else (truth.flatten(1).sum(dim=1) > 0).nonzero()[:, 0]
    if truth is None or clips is None or len(clips) == 0:
        return LossTerm.absent(masks)
    expected = _beside(truth.float().index_select(0, clips), masks)
    difference = masks.float().index_select(0, _beside(clips, masks)) - expected.unsqueeze(1)
    return LossTerm(difference.square().mean(dim=(2, 3)).sum(), float(len(clips)))


def duration_loss(durations: Float[Tensor, "b m"], timestamps: Float[Tensor, "b m"] | None) -> LossTerm:
    """Returns sum (d_i - (t_i - t_(i-1)))^2 in audio tokens, over symbols where both timestamps are known, and their
    number. [ours]

    Unknown timestamps are NaN; None is no timestamp at all.
    """
    if timestamps is None:
        return LossTerm.absent(durations)
    true_durations = timestamps.diff(dim=1).flatten()
    symbols = (~true_durations.isnan()).nonzero()[:, 0]
    if len(symbols) == 0:
        return LossTerm.absent(durations)
    predicted = durations[:, 1:].flatten().index_select(0, _beside(symbols, durations))
    return LossTerm((predicted - _beside(true_durations[symbols], durations)).square().sum(), float(len(symbols)))


def lip_motion_loss(
    error: Float[Tensor, "b c f h w"],
    clean: Float[Tensor, "b c f h w"],
    mask: Float[Tensor, " f"],
    truth: Float[Tensor, "b f n"] | None,
    probe: LinearMouthProbe,
) -> LossTerm:
    """Returns sum (u . e)^2 and sum (u . x)^2 over the frames of all clips; a still mouth scores 1. [ours]

    x are the clean latents around the mouth and e the errors of the predicted ones, both less their mean over the
    frames of the clip. u is the direction of the clip's latents that correlates most with the mouth's opening, as
    `probe` reads it: u ~ sum over frames of (opening x).

    mask: 1 for frames whose velocity is learned. Of these, frames with a known face count, in clips that have several
    of them.
    """
    if truth is None:
        return LossTerm.absent(error)
    counted = (truth.sum(dim=2) > 0) & (mask > 0)
    counted = counted & (counted.sum(dim=1, keepdim=True) > 1)
    if not bool(counted.any()):
        return LossTerm.absent(error)
    counts, truth = _beside(counted.float()[..., None], clean), _beside(truth, clean)

    def centred(values: Float[Tensor, "b f p"]) -> Float[Tensor, "b f p"]:
        mean = (values * counts).sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True).clamp(min=1)
        return (values - mean) * counts

    motion = centred(mouth_crops(clean.float(), truth))
    direction = F.normalize(torch.einsum("b f, b f p -> b p", probe.read(motion), motion), dim=1)
    missed = torch.einsum("b f p, b p -> b f", centred(mouth_crops(error.float(), truth)), direction)
    present = torch.einsum("b f p, b p -> b f", motion, direction)
    return LossTerm(missed.square().sum(), present.square().sum().clamp(min=1e-6))


def _beside(values: Tensor, other: Tensor) -> Tensor:
    return values.to(other.device, non_blocking=True)
