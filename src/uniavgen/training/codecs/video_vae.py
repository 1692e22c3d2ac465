"""Training of the video autoencoder: its linear part on images, all of it on images, then on short clips. [ours]

L = L_pixel + square_weight L_square + motion_weight L_motion + latent_weight L_latent + kl_weight L_kl

L_pixel and L_square are the mean absolute and square error of pixels, L_motion the square error of their change from
frame to frame, all weighted towards face and mouth. L_latent is the square distance of normalised latents from those of
the autoencoder that training began with, L_kl the divergence of the posterior from a unit normal. There is no
discriminator and no perceptual loss, which would need foreign weights. Only the convolutions that change the frame rate
mix frames.

Letters: b batch, F H W pixel frames, c f h w latent channels, frames, rows, columns.
"""

import copy
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
from uniavgen.config import Config, NonNegative, PositiveInt, Probability, Width
from uniavgen.errors import ConfigError, DataError
from uniavgen.training.codecs.run import BatchSize, CodecLoopConfig
from uniavgen.training.codecs.video_vae_init import (
    init_framewise,
    init_with_principal_components,
    linear_view,
)
from uniavgen.training.codecs.weighted_clips import RegionWeights, WeightedClips
from uniavgen.training.objective import Objective
from uniavgen.training.randomness import default_generator, step_rng


@dataclass(frozen=True, kw_only=True)
class TrainingPhase(Config):
    """Consecutive steps with batches of one shape."""

    share: Probability
    """Share of all steps."""
    num_frames: PositiveInt = 1
    """1 + 4n for an autoencoder that makes a latent frame of 4 frames."""
    batch_size: BatchSize = 8
    crop_px: Width | None = None
    """Side of the crops, centred on pixels drawn by weight; None for whole images. A quarter of the area costs a
    quarter of the time, and convolutions do not depend on the position."""
    linear: bool = False
    """Leaves out residual branches and attention, which saves a third of the time while the linear part is learned."""


@dataclass(frozen=True, kw_only=True)
class VideoVAETrainConfig(Config):
    """A video autoencoder and how it is trained."""

    model: VideoVaeShape = field(default_factory=VideoVaeShape)
    """Sizes of a new autoencoder; ignored where training continues an existing one."""
    loop: CodecLoopConfig
    phases: tuple[TrainingPhase, ...] = (TrainingPhase(share=0.7), TrainingPhase(share=0.3, num_frames=9, batch_size=1))
    size_px: Width = 128
    square_weight: NonNegative = 8.0
    motion_weight: NonNegative = 0.0
    """Needed because 4 frames share a latent frame: their mean has a small pixel error, but blurs the lip motion."""
    latent_weight: NonNegative = 0.0
    """Keeps the latents near those of the initial autoencoder, so that a transformer trained on them stays usable."""
    kl_weight: NonNegative = 1e-4
    """Weight of nats per latent value."""
    regions: RegionWeights = field(default_factory=RegionWeights)

    def __post_init__(self) -> None:
        shares = sum(phase.share for phase in self.phases)
        if abs(shares - 1) > 1e-6:
            raise ConfigError(f"the shares of the phases must add up to 1, got {shares}")
        for phase in self.phases:
            if phase.crop_px and phase.crop_px > self.size_px:
                raise ConfigError(f"crop_px is at most size_px, got {phase.crop_px} and {self.size_px}")

    def check_strides(self, spatial_stride: int, temporal_stride: int) -> None:
        """Raises ConfigError where a phase has sizes or lengths that an autoencoder of these strides cannot encode."""
        for phase in self.phases:
            side = phase.crop_px or self.size_px
            if side % spatial_stride:
                raise ConfigError(f"size_px and crop_px are multiples of {spatial_stride}, got {side}")
            if (phase.num_frames - 1) % temporal_stride:
                raise ConfigError(f"num_frames of a phase is 1 + {temporal_stride}n, got {phase.num_frames}")

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
        """Returns the phase that a step belongs to."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.loop.steps
        return self.phases[min(int(np.searchsorted(ends, step, side="right")), len(self.phases) - 1)]


@dataclass(frozen=True, kw_only=True)
class VideoVAEBatch:
    """Crops of clips, mirrored at random."""

    pixels: Float[Tensor, "b 3 F H W"]
    weights: Float[Tensor, "b 1 F H W"]
    linear: bool
    """Whether only the linear part is trained."""
    generator: torch.Generator
    """Draws the noise of the latents."""


class VideoVAEObjective(Objective[VideoVAEBatch]):
    """Reconstruction of images and clips.

    Begins with `initial`, or with the principal components of the images where there is none. Raises ConfigError where
    latents have a weight and there is no `initial`.
    """

    model: AutoencoderKLWan

    def __init__(
        self,
        config: VideoVAETrainConfig,
        clips: WeightedClips,
        device: torch.device,
        initial: AutoencoderKLWan | None = None,
    ) -> None:
        self.config = config
        self.clips = clips
        self.device = device
        if config.latent_weight and initial is None:
            raise ConfigError("latent_weight holds on to an autoencoder, none given; add --init with a model folder")
        self.model = initial or _initial_model(config, clips)
        use_frame_convolutions(self.model)
        if initial is None:
            config.check_strides(config.model.spatial_stride, config.model.temporal_stride)
        else:
            codec = VideoCodec(initial)
            config.check_strides(codec.spatial_stride, codec.temporal_stride)
        self._initial = VideoCodec(copy.deepcopy(initial).to(device)) if initial and config.latent_weight else None
        self.model.to(device)
        self._linear_model = linear_view(self.model)

    @classmethod
    def from_folder(
        cls, config: VideoVAETrainConfig, folder: Path, device: torch.device, initial: AutoencoderKLWan | None = None
    ) -> "VideoVAEObjective":
        """Returns the objective over the clips of a folder of shards."""
        return cls(config, WeightedClips(folder, config.size_px, config.regions), device, initial)

    def batch(self, step: int) -> VideoVAEBatch:
        rng, phase = step_rng(self.config.loop.seed, step), self.config.phase(step)
        frames, weights = [], []
        for _ in range(phase.batch_size):
            clip = self.clips.read(int(rng.integers(len(self.clips))))
            if len(clip.frames) < phase.num_frames:
                raise DataError(
                    f"a clip has {len(clip.frames)} frames, a phase takes {phase.num_frames}; leave short clips out or "
                    "lower num_frames of the phase"
                )
            first = int(rng.integers(len(clip.frames) - phase.num_frames + 1))
            chosen = slice(first, first + phase.num_frames)
            rows, columns = _crop(rng, clip.weights[first], phase.crop_px)
            mirror = -1 if rng.random() < 0.5 else 1
            frames.append(clip.frames[chosen, rows, columns][:, :, ::mirror])
            weights.append(clip.weights[chosen, rows, columns][:, :, ::mirror])
        return VideoVAEBatch(
            pixels=to_pixels(torch.from_numpy(np.stack(frames)).to(self.device)),
            weights=torch.from_numpy(np.stack(weights)).to(self.device)[:, None],
            linear=phase.linear,
            generator=torch.Generator(self.device).manual_seed(int(rng.integers(2**62))),
        )

    def losses(self, batch: VideoVAEBatch, step: int) -> dict[str, Tensor]:
        del step
        model, pixels, weights = self._linear_model if batch.linear else self.model, batch.pixels, batch.weights
        posterior = model.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=batch.generator, device=self.device)
        decoded = decode_unclamped(model, posterior.mean + posterior.std * noise)
        pixel, square = reconstruction_distance(decoded, pixels, weights)
        # KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2
        kl = (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean() / 2
        terms = {"pixel": pixel, "square": square, "motion": motion_distance(decoded, pixels, weights), "kl": kl}
        if self._initial is not None:
            drift = self._initial.normalise(posterior.mean) - self._initial.encode(pixels)
            terms["latent"] = drift.square().mean()
        weighted = [self.config.loss_weights[name] * value for name, value in terms.items()]
        return {"total": torch.stack(weighted).sum(), **terms}


def _crop(rng: np.random.Generator, weights: Float[np.ndarray, "H W"], size_px: int | None) -> tuple[slice, slice]:
    if size_px is None:
        return slice(None), slice(None)
    position = rng.choice(weights.size, p=weights.ravel() / weights.sum(dtype=np.float64))
    centre = np.unravel_index(position, weights.shape)
    starts = [min(max(int(c) - size_px // 2, 0), size - size_px) for c, size in zip(centre, weights.shape, strict=True)]
    return slice(starts[0], starts[0] + size_px), slice(starts[1], starts[1] + size_px)


def reconstruction_distance(
    decoded: Float[Tensor, "b 3 F H W"], target: Float[Tensor, "b 3 F H W"], weights: Float[Tensor, "b 1 F H W"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Returns mean w |y - x| and mean w (y - x)^2 over pixels, w having mean 1."""
    weights, difference = weights / weights.mean(), decoded - target
    return (difference.abs() * weights).mean(), (difference.square() * weights).mean()


def motion_distance(
    decoded: Float[Tensor, "b 3 F H W"], target: Float[Tensor, "b 3 F H W"], weights: Float[Tensor, "b 1 F H W"]
) -> Float[Tensor, ""]:
    """Returns the weighted mean square error of the changes from frame to frame; 0 for single images."""
    if decoded.shape[2] == 1:
        return decoded.new_zeros(())
    changes = [pixels.diff(dim=2) for pixels in (decoded, target)]
    return reconstruction_distance(*changes, weights[:, :, 1:])[1]


def _initial_model(config: VideoVAETrainConfig, clips: WeightedClips) -> AutoencoderKLWan:
    with default_generator(torch.Generator().manual_seed(config.loop.seed)):
        vae = config.model.build()
    init_framewise(vae)
    init_with_principal_components(vae, _first_frames(clips))
    return vae


def _first_frames(clips: WeightedClips, max_clips: int = 256) -> Float[Tensor, "b 3 1 H W"]:
    """Returns the first frame of up to `max_clips` clips, spread over the data."""
    chosen = np.linspace(0, len(clips) - 1, min(max_clips, len(clips))).astype(int)
    frames = np.stack([clips.read(int(clip)).frames[:1] for clip in chosen])
    return to_pixels(torch.from_numpy(frames))


@torch.no_grad()
def latent_statistics(
    vae: AutoencoderKLWan, clips: WeightedClips, num_clips: int, num_frames: int = 17
) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each latent channel over the first frames of clips spread over the
    data."""
    parameter = next(vae.parameters())
    count, total, squares = 0, torch.zeros(vae.config.z_dim).double(), torch.zeros(vae.config.z_dim).double()
    for clip in np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).astype(int):
        frames = torch.from_numpy(clips.read(int(clip)).frames[None, :num_frames])
        latents = vae.encode(to_pixels(frames).to(parameter)).latent_dist.mode()
        values = rearrange(latents, "1 c f h w -> c (f h w)").cpu().double()
        count += values.shape[1]
        total += values.sum(dim=1)
        squares += values.square().sum(dim=1)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp(min=1e-8).sqrt()
    return mean.tolist(), deviation.tolist()


def store_latent_statistics(vae: AutoencoderKLWan, clips: WeightedClips, num_clips: int = 64) -> None:
    """Stores the statistics of the latents in the autoencoder's config, where `VideoCodec` finds them."""
    mean, deviation = latent_statistics(vae, clips, num_clips)
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
