"""Training of the mouth reader on rendered truth. [ours]

A batch is some clips and some frames of each. The loss has two parts: the opening itself, and the opening with each
clip's mean taken off, since correlation over time is what the reader is for. Pictures are moved, mirrored, recoloured,
softened and stained, the same way for all frames of a clip but for the noise.

Letters: b clips, k frames a clip, h w pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from uniavgen.errors import ConfigError, DataError
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.mouth import SIDE_PX, FaceSquare, MouthReader, correlation
from uniavgen.evaluation.readers.fitting import Distortion, Fitting, fit, initialise
from uniavgen.evaluation.truth import TruthClip

DISTORTED = Distortion(side=SIDE_PX, zoom=(0.75, 1.15), shift=0.2)


@dataclass(frozen=True, kw_only=True)
class MouthTrainingConfig(Fitting):
    """How the shipped reader is trained."""

    steps: int = 1000
    clips_per_step: int = 16
    frames_per_clip: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clips_per_step < 1 or self.frames_per_clip < 2:
            raise ConfigError("a mouth reader needs 1 or more clips a step and 2 or more frames a clip")


@dataclass(frozen=True, kw_only=True)
class FrameSet:
    """Squares of the faces of many clips in memory, with their mouth opening."""

    pictures: Sequence[Tensor]
    """One uint8 `k 3 h w` a clip."""
    openings: Sequence[Tensor]
    """One float32 `k` a clip."""

    @classmethod
    def gather(cls, clips: Iterator[TruthClip], every: int = 3) -> "FrameSet":
        """Every third frame, since neighbours teach little. Clips without a face are left out."""
        pictures, openings = [], []
        for clip in clips:
            if not clip.truth.face_mask.any():
                continue
            squares = FaceSquare.of(clip.truth.face_mask).cut(clip.frames[::every])
            pictures.append(((squares + 1) * 127.5).round().to(torch.uint8))
            openings.append(torch.from_numpy(clip.truth.mouth_opening[::every].astype(np.float32)))
        if not pictures:
            raise DataError("there is no clip to learn from; render some with `uniavgen synth`")
        return cls(pictures=pictures, openings=openings)

    def scale(self) -> tuple[float, float]:
        """Mean and spread of all openings."""
        values = torch.cat(list(self.openings))
        return float(values.mean()), float(values.std())


def train_mouth_reader(
    frames: FrameSet, config: MouthTrainingConfig, on_step: Callable[[int, float], None] | None = None
) -> MouthReader:
    """A reader trained from nothing; the same frames and settings give the same reader."""
    rng = torch.Generator().manual_seed(config.seed)
    reader = MouthReader()
    initialise(reader, rng)
    mean, spread = frames.scale()
    if spread < 1e-6:
        raise DataError("no mouth in the clips ever moves; render others with `uniavgen synth`")

    def loss() -> Tensor:
        pictures, opening = _batch(frames, config, rng)
        truth = (opening - mean) / spread
        drawn = torch.cat([DISTORTED.apply(clip, rng) for clip in pictures])
        predicted = rearrange(reader(drawn), "(b k) -> b k", b=len(truth))
        return F.smooth_l1_loss(predicted, truth) + F.mse_loss(_centred(predicted), _centred(truth))

    fit([reader], loss, config, on_step)
    _to_unit(reader, mean, spread)
    return reader


def held_out_correlation(reader: MouthReader, clips: Iterator[TruthClip]) -> float:
    """Mean over clips of the correlation with truth: the ceiling of what this reader can measure."""
    values = []
    for clip in clips:
        try:
            values.append(
                correlation(reader.read(clip.frames, FaceSquare.of(clip.truth.face_mask)), clip.truth.mouth_opening)
            )
        except NotMeasured:
            continue
    if not values:
        raise DataError("no held-out clip has a mouth that moves; render others with `uniavgen synth`")
    return float(np.mean(values))


def _batch(frames: FrameSet, config: MouthTrainingConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    pictures, openings = [], []
    for clip in torch.randint(len(frames.pictures), (config.clips_per_step,), generator=rng).tolist():
        picks = torch.randint(len(frames.openings[clip]), (config.frames_per_clip,), generator=rng)
        pictures.append(frames.pictures[clip][picks])
        openings.append(frames.openings[clip][picks])
    return torch.stack(pictures).float() / 127.5 - 1, torch.stack(openings)


def _centred(opening: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    return opening - opening.mean(dim=1, keepdim=True)


@torch.no_grad()
def _to_unit(reader: MouthReader, mean: float, spread: float) -> None:
    """Fold the training scale into the last layer, so that the reader answers in the renderer's unit."""
    last = reader.opening[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.mul_(spread)
    last.bias.mul_(spread).add_(mean)
