"""Training of the face locator on the masks of rendered clips. [ours]

A training image is composed of two zoomed images, often with a face each, so that faces of all sizes and several at
once occur. Bars in the colour of the skin imitate hands and arms, which the synthetic world lacks.

Letters: k images, h w pixels, b batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from uniavgen.data.rendered import RenderedSample
from uniavgen.errors import DataError
from uniavgen.perception.face_locator import CELL_PX, SHORT_SIDE_PX, FaceLocator
from uniavgen.training.loop import Callback
from uniavgen.training.objective import Objective
from uniavgen.training.perception.augmentation import Augmentation, recolour, uniform
from uniavgen.training.perception.run import PerceptionTrainConfig, initialise, train_network
from uniavgen.training.randomness import torch_generator

BATCH = 12
BACKGROUND_CROP = Augmentation(side=SHORT_SIDE_PX, zoom=(0.75, 1.3), shift=0.3)
FOREGROUND_CROP = Augmentation(side=SHORT_SIDE_PX, zoom=(1.2, 4.0), shift=1.2)
FOREGROUND_SHARE, GREY_SHARE, SWAPPED_COLOURS_SHARE = 0.6, 0.3, 0.3
"""Shares of the images with a second image on top, without colours, with permuted colour channels."""
MAX_LIMBS, STRIPED_LIMB_SHARE = 5, 0.4


@dataclass(frozen=True, kw_only=True)
class FaceMaskBatch:
    """Images in [-1, 1], and the share of each cell that is face."""

    images: Float[Tensor, "b 3 h w"]
    masks: Float[Tensor, "b h2 w2"]


@dataclass(frozen=True, kw_only=True)
class FaceMaskDataset:
    """Images of many clips in memory, with the mask of the face as fourth channel."""

    images: UInt8[Tensor, "k 4 h w"]

    @classmethod
    def from_clips(cls, clips: Iterable[RenderedSample], frames_per_clip: int = 2) -> "FaceMaskDataset":
        """Returns `frames_per_clip` frames of every clip. Raises DataError where there is no clip."""
        images = []
        for clip in clips:
            picks = np.linspace(0, len(clip.frames) - 1, frames_per_clip + 2).round().astype(int)[1:-1]
            mask = clip.truth.face_mask[picks][..., None].astype(np.uint8) * 255
            images.append(np.moveaxis(np.concatenate([clip.frames[picks], mask], axis=-1), -1, 1))
        if not images:
            raise DataError("there is no clip to learn from; render some with `uniavgen synth`")
        return cls(images=torch.from_numpy(np.concatenate(images)))

    def sample_batch(self, rng: torch.Generator) -> FaceMaskBatch:
        """Returns new combinations of the images."""
        samples = [self._sample(rng) for _ in range(BATCH)]
        images, masks = torch.stack([image for image, _ in samples]), torch.stack([mask for _, mask in samples])
        return FaceMaskBatch(images=images, masks=F.avg_pool2d(masks[:, None], CELL_PX)[:, 0])

    def _sample(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        background, foreground = (self._pick(rng) for _ in range(2))
        canvas = BACKGROUND_CROP.crop(background, rng)
        if torch.rand((), generator=rng) < FOREGROUND_SHARE:
            # A fifth channel of ones becomes 0 where the crop reaches beyond the image.
            top = torch.cat([foreground, torch.ones_like(foreground[:, :1])], dim=1)
            top = FOREGROUND_CROP.crop(top, rng, padding="zeros")
            canvas = torch.where(top[:, 4:] > 0.99, top[:, :4], canvas)
        for _ in range(int(torch.randint(MAX_LIMBS + 1, (), generator=rng))):
            canvas = _with_limb(canvas, rng)
        image, mask = recolour(canvas[:, :3], rng), (canvas[:, 3] + 1) / 2
        # Colour alone must not decide: hands, wood and coloured light have that of skin too.
        draw = torch.rand((), generator=rng)
        if draw < GREY_SHARE:
            image = image.mean(dim=1, keepdim=True).expand_as(image)
        elif draw < GREY_SHARE + SWAPPED_COLOURS_SHARE:
            image = image[:, torch.randperm(3, generator=rng)]
        return image[0], mask[0]

    def _pick(self, rng: torch.Generator) -> Float[Tensor, "1 4 h w"]:
        index = int(torch.randint(len(self.images), (1,), generator=rng))
        return self.images[index : index + 1].float() / 127.5 - 1


def _with_limb(image: Float[Tensor, "1 4 h w"], rng: torch.Generator) -> Float[Tensor, "1 4 h w"]:
    """Draws a bar with round ends in the colour of the face; its mask is background."""
    height, width = image.shape[2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    left, top, turn, length, thickness = uniform(rng, 0.0, 1.0, 5)
    x, y, angle = x - 2 * left + 1, y - 2 * top + 1, turn * torch.pi
    # Coordinates along and across the bar; a capsule is what is near enough to its axis.
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    half, thickness = 0.05 + 0.8 * length.square(), 0.04 + 0.22 * thickness
    outside = torch.hypot((along.abs() - half).clamp(min=0), across) - thickness
    alpha = torch.sigmoid(-outside * uniform(rng, 20.0, 80.0, 1))
    face = (image[:, 3:] + 1) / 2
    skin = (image[:, :3] * face).sum(dim=(2, 3)) / face.sum(dim=(2, 3)).clamp(min=1)
    light = uniform(rng, -0.4, 0.4, 1) * across / thickness + uniform(rng, -0.2, 0.2, 1) * along / half
    if torch.rand((), generator=rng) < STRIPED_LIMB_SHARE:
        light = light + uniform(rng, 0.0, 0.5, 1) * torch.sin(along * uniform(rng, 10.0, 60.0, 1))
    colour = skin[..., None, None] + uniform(rng, -0.15, 0.15, 3)[:, None, None] + light
    limb = torch.cat([colour, torch.full_like(face, -1.0)], dim=1)
    return image + alpha * (limb - image)


class FaceLocatorObjective(Objective[FaceMaskBatch]):
    """L = 3 L_cross_entropy + L_dice of face masks, with soft Dice: 1 - (2 sum(p m) + 1) / (sum(p) + sum(m) + 1)."""

    model: FaceLocator

    def __init__(self, dataset: FaceMaskDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.model = FaceLocator()
        initialise(self.model, torch.Generator().manual_seed(seed))

    def batch(self, step: int) -> FaceMaskBatch:
        return self.dataset.sample_batch(torch_generator(self.seed, step))

    def losses(self, batch: FaceMaskBatch, step: int) -> dict[str, Tensor]:
        del step
        logits, masks = self.model(batch.images), batch.masks
        probability = logits.sigmoid()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, masks)
        dice = 1 - (2 * (probability * masks).sum() + 1) / (probability.sum() + masks.sum() + 1)
        return {"total": 3 * cross_entropy + dice, "cross_entropy": cross_entropy, "dice": dice}


def train_face_locator(
    dataset: FaceMaskDataset, config: PerceptionTrainConfig, seed: int = 0, callbacks: Iterable[Callback] = ()
) -> FaceLocator:
    """Trains a locator from scratch and returns it; the same input gives the same weights."""
    objective = FaceLocatorObjective(dataset, seed)
    train_network(objective, config, callbacks)
    return objective.model
