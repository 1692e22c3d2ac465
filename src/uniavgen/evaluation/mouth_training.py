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
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from uniavgen.config import Config
from uniavgen.errors import ConfigError, DataError
from uniavgen.evaluation.metric import NotMeasured
from uniavgen.evaluation.mouth import Block, FaceSquare, MouthReader, correlation
from uniavgen.evaluation.truth import TruthClip


@dataclass(frozen=True, kw_only=True)
class MouthTrainingConfig(Config):
    """How the shipped reader is trained."""

    steps: int = 1000
    clips_per_step: int = 16
    frames_per_clip: int = 4
    learning_rate: float = 2e-3
    """Peak; up over the first 5 % of the steps, then a cosine to 0."""
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.clips_per_step) < 1 or self.frames_per_clip < 2:
            raise ConfigError("a mouth reader needs 1 or more steps and clips and 2 or more frames a clip")


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
    _initialise(reader, rng)
    mean, spread = frames.scale()
    if spread < 1e-6:
        raise DataError("no mouth in the clips ever moves; render others with `uniavgen synth`")
    optimiser = torch.optim.AdamW(reader.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, config.steps))
    reader.train()
    for step in range(config.steps):
        pictures, opening = _batch(frames, config, rng)
        truth = (opening - mean) / spread
        predicted = rearrange(reader(augment(pictures, rng).flatten(0, 1)), "(b k) -> b k", b=len(truth))
        loss = F.smooth_l1_loss(predicted, truth) + F.mse_loss(_centred(predicted), _centred(truth))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(step, loss.item())
    _to_unit(reader, mean, spread)
    return reader.eval()


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


def augment(pictures: Float[Tensor, "b k 3 h w"], rng: torch.Generator) -> Float[Tensor, "b k 3 h w"]:
    """Pictures in [-1, 1] as a generator might have drawn them: moved, mirrored, recoloured, softened, stained."""
    return torch.stack([_augment_clip(clip, rng) for clip in pictures])


def _augment_clip(frames: Float[Tensor, "k 3 h w"], rng: torch.Generator) -> Float[Tensor, "k 3 h w"]:
    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng)

    count, _, height, width = frames.shape
    zoom, mirror = between(0.75, 1.15, 1), torch.sign(between(-1.0, 1.0, 1))
    zero = torch.zeros(1)
    matrix = torch.stack([zoom * mirror, zero, between(-0.2, 0.2, 1), zero, zoom, between(-0.2, 0.2, 1)])
    affine = repeat(rearrange(matrix, "(r c) 1 -> r c", r=2), "r c -> k r c", k=count)
    grid = F.affine_grid(affine, list(frames.shape), align_corners=False)
    frames = F.grid_sample(frames, grid, padding_mode="reflection", align_corners=False)
    gain, shift = between(0.7, 1.3, 1, 3, 1, 1), between(-0.2, 0.2, 1, 3, 1, 1)
    frames = frames * gain + shift
    softness = float(between(0.0, 1.0, 1))
    if softness > 0.3:
        # Down and up again: what a small video codec takes away.
        size = (round(height / (1 + 1.8 * softness)), round(width / (1 + 1.8 * softness)))
        small = F.interpolate(frames, size, mode="bilinear", antialias=True)
        frames = F.interpolate(small, (height, width), mode="bilinear")
    noise = torch.randn(frames.shape, generator=rng) * between(0.0, 0.1, 1)
    return (frames + noise).clamp(-1, 1)


def _batch(frames: FrameSet, config: MouthTrainingConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    pictures, openings = [], []
    for clip in torch.randint(len(frames.pictures), (config.clips_per_step,), generator=rng).tolist():
        picks = torch.randint(len(frames.openings[clip]), (config.frames_per_clip,), generator=rng)
        pictures.append(frames.pictures[clip][picks])
        openings.append(frames.openings[clip][picks])
    return torch.stack(pictures).float() / 127.5 - 1, torch.stack(openings)


def _centred(opening: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    return opening - opening.mean(dim=1, keepdim=True)


def _rate(step: int, steps: int) -> float:
    warm_up = max(steps // 20, 1)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(steps - warm_up, 1))))


def _initialise(reader: MouthReader, rng: torch.Generator) -> None:
    for module in reader.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, generator=rng)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for block in reader.modules():
        if isinstance(block, Block):
            # A fresh block changes nothing.
            torch.nn.init.zeros_(block.narrow.weight)


@torch.no_grad()
def _to_unit(reader: MouthReader, mean: float, spread: float) -> None:
    """Fold the training scale into the last layer, so that the reader answers in the renderer's unit."""
    last = reader.opening[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.mul_(spread)
    last.bias.mul_(spread).add_(mean)
