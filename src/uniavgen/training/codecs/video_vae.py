"""Training of the video autoencoder: its linear part on pictures, all of it on pictures, then on short clips.

Distance is L1 and square error of pixels, weighted towards face and mouth, square error of their change from frame to
frame, plus a small KL. No adversary and no perceptual network: there are none without foreign weights. Only the
convolutions that change the frame rate mix frames. [ours]

Letters: b batch, F H W pixel frames.
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.codecs.frame_convolution import use_frame_convolutions
from uniavgen.codecs.video_vae import VideoCodec, VideoVaeShape, decode_unclamped, to_pixels
from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.training.codecs.loop import LoopConfig, Objective, seeded, step_rng
from uniavgen.training.codecs.video_vae_init import (
    init_framewise,
    init_with_principal_components,
    linear_part,
)
from uniavgen.training.codecs.weighted_clips import RegionWeights, WeightedClips


@dataclass(frozen=True, kw_only=True)
class TrainingPhase(Config):
    """A stretch of the training with batches of one shape."""

    share: float
    """Of all steps."""
    num_frames: int = 1
    batch_size: int = 8
    crop_px: int | None = None
    """Side of the crops, centred on pixels drawn by weight; None for whole pictures. A quarter of the picture costs a
    quarter, and the autoencoder does not know where it is."""
    linear: bool = False
    """Leaves out residual branches and attention: a third of the work, and nothing that could learn is in the way."""


@dataclass(frozen=True, kw_only=True)
class VideoVAETrainConfig(Config):
    """A video autoencoder and how it is trained."""

    model: VideoVaeShape = field(default_factory=VideoVaeShape)
    """Of a new autoencoder; one that is given keeps its own."""
    loop: LoopConfig
    phases: tuple[TrainingPhase, ...] = (TrainingPhase(share=0.7), TrainingPhase(share=0.3, num_frames=9, batch_size=1))
    size_px: int = 128
    square_weight: float = 8.0
    """Of the mean square error, against L1."""
    motion_weight: float = 0.0
    """Of the mean square error of changes from frame to frame: 4 frames share a latent, and the mean of 4 mouths is
    near to each of them and out of time with all."""
    latent_weight: float = 0.0
    """Of the mean square distance of normalised latents from those of the autoencoder that was given, so that what a
    transformer learnt on these is of use."""
    kl_weight: float = 1e-4
    """Of the mean divergence of a latent value from a unit normal, in nats."""
    regions: RegionWeights = field(default_factory=RegionWeights)

    def __post_init__(self) -> None:
        shares = sum(phase.share for phase in self.phases)
        if abs(shares - 1) > 1e-6:
            raise ConfigError(f"the shares of the phases must add up to 1, got {shares}")

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each term of the loss."""
        return {
            "pixel": 1.0,
            "square": self.square_weight,
            "motion": self.motion_weight,
            "latent": self.latent_weight,
            "kl": self.kl_weight,
        }

    def phase(self, step: int) -> TrainingPhase:
        """The phase that a step belongs to."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.loop.steps
        return self.phases[min(int(np.searchsorted(ends, step, side="right")), len(self.phases) - 1)]


class VideoVAEObjective(Objective):
    """Reconstruction of pictures and clips.

    Begins with `start`, or with principal components of the pictures where there is none. Raises ConfigError for a
    weight on the latents of a `start` where there is none.
    """

    def __init__(
        self,
        config: VideoVAETrainConfig,
        pictures: WeightedClips,
        device: torch.device,
        start: AutoencoderKLWan | None = None,
    ) -> None:
        self.config = config
        self.pictures = pictures
        self.device = device
        if config.latent_weight and start is None:
            raise ConfigError("latent_weight holds on to an autoencoder, none given; add --init with a model folder")
        self._given = VideoCodec(copy.deepcopy(start).to(device)) if start and config.latent_weight else None
        self.model = start or _as_components(config, pictures)
        use_frame_convolutions(self.model)
        self.model.to(device)

    @classmethod
    def from_folder(
        cls, config: VideoVAETrainConfig, folder: Path, device: torch.device, start: AutoencoderKLWan | None = None
    ) -> "VideoVAEObjective":
        """The objective over the clips of a folder of shards."""
        return cls(config, WeightedClips(folder, config.size_px, config.regions), device, start)

    def losses(self, step: int) -> dict[str, Tensor]:
        rng = step_rng(self.config.loop.seed, step)
        phase = self.config.phase(step)
        pixels, weights = self._batch(rng, phase)
        with linear_part(self.model) if phase.linear else nullcontext():
            posterior = self.model.encode(pixels).latent_dist
            generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
            noise = torch.randn(posterior.mean.shape, generator=generator, device=self.device)
            made = decode_unclamped(self.model, posterior.mean + posterior.std * noise)
        pixel, square = reconstruction_distance(made, pixels, weights)
        kl = (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean() / 2
        terms = {"pixel": pixel, "square": square, "motion": motion_distance(made, pixels, weights), "kl": kl}
        if self._given is not None:
            moved = self._given.normalise(posterior.mean) - self._given.encode(pixels)
            terms["latent"] = moved.square().mean()
        weighted = [self.config.loss_weights[name] * value for name, value in terms.items()]
        return {"total": torch.stack(weighted).sum()} | {name: value.detach() for name, value in terms.items()}

    def _batch(self, rng: np.random.Generator, phase: TrainingPhase) -> tuple[Tensor, Tensor]:
        frames, weights = [], []
        for _ in range(phase.batch_size):
            clip = self.pictures.read(int(rng.integers(len(self.pictures))))
            first = int(rng.integers(len(clip.frames) - phase.num_frames + 1))
            chosen = slice(first, first + phase.num_frames)
            rows, columns = _crop(rng, clip.weights[first], phase.crop_px)
            mirror = -1 if rng.random() < 0.5 else 1
            frames.append(clip.frames[chosen, rows, columns][:, :, ::mirror])
            weights.append(clip.weights[chosen, rows, columns][:, :, ::mirror])
        pixels = to_pixels(torch.from_numpy(np.stack(frames)).to(self.device))
        return pixels, torch.from_numpy(np.stack(weights)).to(self.device)[:, None]


def _crop(rng: np.random.Generator, weights: Float[np.ndarray, "H W"], size_px: int | None) -> tuple[slice, slice]:
    if size_px is None:
        return slice(None), slice(None)
    place = rng.choice(weights.size, p=weights.ravel() / weights.sum(dtype=np.float64))
    centre = np.unravel_index(place, weights.shape)
    starts = [min(max(int(c) - size_px // 2, 0), size - size_px) for c, size in zip(centre, weights.shape, strict=True)]
    return slice(starts[0], starts[0] + size_px), slice(starts[1], starts[1] + size_px)


def reconstruction_distance(
    made: Float[Tensor, "b 3 F H W"], target: Float[Tensor, "b 3 F H W"], weights: Float[Tensor, "b 1 F H W"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Weighted L1 and weighted mean square error of pixels."""
    weights, difference = weights / weights.mean(), made - target
    return (difference.abs() * weights).mean(), (difference.square() * weights).mean()


def motion_distance(
    made: Float[Tensor, "b 3 F H W"], target: Float[Tensor, "b 3 F H W"], weights: Float[Tensor, "b 1 F H W"]
) -> Float[Tensor, ""]:
    """Weighted mean square error of the changes from frame to frame; 0 of pictures."""
    if made.shape[2] == 1:
        return made.new_zeros(())
    changes = [pixels.diff(dim=2) for pixels in (made, target)]
    return reconstruction_distance(*changes, weights[:, :, 1:])[1]


def _as_components(config: VideoVAETrainConfig, pictures: WeightedClips) -> AutoencoderKLWan:
    with seeded(config.loop.seed):
        vae = config.model.build()
    init_framewise(vae)
    init_with_principal_components(vae, _some_pictures(pictures))
    return vae


def _some_pictures(pictures: WeightedClips, most: int = 256) -> Float[Tensor, "b 3 1 H W"]:
    """One picture of each of up to `most` clips."""
    clips = np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int)
    frames = np.stack([pictures.read(int(clip)).frames[:1] for clip in clips])
    return to_pixels(torch.from_numpy(frames))


@torch.no_grad()
def latent_statistics(
    vae: AutoencoderKLWan, pictures: WeightedClips, num_clips: int, num_frames: int = 17
) -> tuple[list[float], list[float]]:
    """Mean and deviation of each latent channel over the leading frames of clips spread over the data."""
    parameter = next(vae.parameters())
    count, total, squares = 0, torch.zeros(vae.config.z_dim).double(), torch.zeros(vae.config.z_dim).double()
    for clip in np.linspace(0, len(pictures) - 1, min(num_clips, len(pictures))).astype(int):
        frames = torch.from_numpy(pictures.read(int(clip)).frames[None, :num_frames])
        latents = vae.encode(to_pixels(frames).to(parameter)).latent_dist.mode()
        values = rearrange(latents, "1 c f h w -> c (f h w)").cpu().double()
        count += values.shape[1]
        total += values.sum(dim=1)
        squares += values.square().sum(dim=1)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=1e-8).sqrt()
    return mean.tolist(), deviation.tolist()


def store_latent_statistics(vae: AutoencoderKLWan, pictures: WeightedClips, num_clips: int = 64) -> None:
    """Store the statistics of the latents in the autoencoder's config, where `VideoCodec` finds them."""
    mean, deviation = latent_statistics(vae, pictures, num_clips)
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
