"""Training of the face locator on the masks of rendered clips. [ours]

A picture is zoomed, often far out, and then lies on another one with its own face, so that faces of all sizes and
several at once occur.

Letters: k pictures, h w pixels, b batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from uniavgen.errors import DataError
from uniavgen.evaluation.readers.fitting import Distortion, Fitting, between, fit, initialise, recoloured
from uniavgen.evaluation.readers.locator import CELL_PX, SHORT_SIDE_PX, FaceLocator
from uniavgen.evaluation.truth import TruthClip

BATCH = 12
_NEAR = Distortion(side=SHORT_SIDE_PX, zoom=(0.75, 1.3), shift=0.3)
_FAR = Distortion(side=SHORT_SIDE_PX, zoom=(1.2, 4.0), shift=1.2)
_SHARE_FAR, _SHARE_GREY, _SHARE_SWAPPED = 0.6, 0.3, 0.3
_MOST_LIMBS, _SHARE_STRIPED = 5, 0.4


@dataclass(frozen=True, kw_only=True)
class MaskedPictures:
    """Pictures of many clips in memory, with the mask of the face as fourth channel."""

    pictures: UInt8[Tensor, "k 4 h w"]

    @classmethod
    def gather(cls, clips: Iterator[TruthClip], a_clip: int = 2) -> "MaskedPictures":
        """`a_clip` frames of every clip."""
        found = []
        for clip in clips:
            picks = np.linspace(0, len(clip.frames) - 1, a_clip + 2).round().astype(int)[1:-1]
            mask = clip.truth.face_mask[picks][..., None].astype(np.uint8) * 255
            found.append(np.moveaxis(np.concatenate([clip.frames[picks], mask], axis=-1), -1, 1))
        if not found:
            raise DataError("there is no clip to learn from; render some with `uniavgen synth`")
        return cls(pictures=torch.from_numpy(np.concatenate(found)))

    def draw(self, rng: torch.Generator) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b h2 w2"]]:
        """Pictures in [-1, 1], and how much of every cell is face."""
        drawn = [self._one(rng) for _ in range(BATCH)]
        pictures, masks = torch.stack([picture for picture, _ in drawn]), torch.stack([mask for _, mask in drawn])
        return pictures, F.avg_pool2d(masks[:, None], CELL_PX)[:, 0]

    def _one(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        near, far = (self._pick(rng) for _ in range(2))
        below = _NEAR.moved(near, rng)
        if torch.rand((), generator=rng) < _SHARE_FAR:
            above = _FAR.moved(torch.cat([far, torch.ones_like(far[:, :1])], dim=1), rng, beyond="zeros")
            below = torch.where(above[:, 4:] > 0.99, above[:, :4], below)
        for _ in range(int(torch.randint(_MOST_LIMBS + 1, (), generator=rng))):
            below = _with_limb(below, rng)
        picture, mask = recoloured(below[:, :3], rng), (below[:, 3] + 1) / 2
        # Colour alone must not tell: hands, wood and other light have it too.
        chance = torch.rand((), generator=rng)
        if chance < _SHARE_GREY:
            picture = picture.mean(dim=1, keepdim=True).expand_as(picture)
        elif chance < _SHARE_GREY + _SHARE_SWAPPED:
            picture = picture[:, torch.randperm(3, generator=rng)]
        return picture[0], mask[0]

    def _pick(self, rng: torch.Generator) -> Float[Tensor, "1 4 h w"]:
        place = int(torch.randint(len(self.pictures), (1,), generator=rng))
        return self.pictures[place : place + 1].float() / 127.5 - 1


def _with_limb(picture: Float[Tensor, "1 4 h w"], rng: torch.Generator) -> Float[Tensor, "1 4 h w"]:
    """A bar with round ends in the colour of the face lies on the picture: the world has no hands and arms."""
    height, width = picture.shape[2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    left, top, turn, length, thick = between(rng, 0.0, 1.0, 5)
    x, y, turn = x - 2 * left + 1, y - 2 * top + 1, turn * torch.pi
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    half, thick = 0.05 + 0.8 * length.square(), 0.04 + 0.22 * thick
    outside = torch.hypot((along.abs() - half).clamp(min=0), across) - thick
    cover = torch.sigmoid(-outside * between(rng, 20.0, 80.0, 1))
    face = (picture[:, 3:] + 1) / 2
    skin = (picture[:, :3] * face).sum(dim=(2, 3)) / face.sum(dim=(2, 3)).clamp(min=1)
    light = between(rng, -0.4, 0.4, 1) * across / thick + between(rng, -0.2, 0.2, 1) * along / half
    if torch.rand((), generator=rng) < _SHARE_STRIPED:
        light = light + between(rng, 0.0, 0.5, 1) * torch.sin(along * between(rng, 10.0, 60.0, 1))
    colour = skin[..., None, None] + between(rng, -0.15, 0.15, 3)[:, None, None] + light
    limb = torch.cat([colour, torch.full_like(face, -1.0)], dim=1)
    return picture + cover * (limb - picture)


def train_locator(
    pictures: MaskedPictures, config: Fitting, seed: int = 0, on_step: Callable[[int, float], None] | None = None
) -> FaceLocator:
    """A locator trained from nothing; the same pictures and settings give the same one."""
    rng = torch.Generator().manual_seed(seed)
    locator = FaceLocator()
    initialise(locator, rng)

    def loss() -> Tensor:
        drawn, truth = pictures.draw(rng)
        found = locator(drawn)
        overlap = 1 - (2 * (found.sigmoid() * truth).sum() + 1) / (found.sigmoid().sum() + truth.sum() + 1)
        return F.binary_cross_entropy_with_logits(found, truth) * 3 + overlap

    fit([locator], loss, config, on_step)
    return locator
