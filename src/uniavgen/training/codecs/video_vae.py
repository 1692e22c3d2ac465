"""Training of the video autoencoder: single pictures first, then short clips; last, the statistics of its latents.

Distance is L1 of pixels and of their differences at three scales, weighted towards face and mouth, plus a small KL.
No adversary and no perceptual network: there are none without foreign weights. [ours]

Letters: b batch, F H W pixel frames.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.codecs.video_vae import VideoVaeShape, decode_unclamped, to_pixels
from uniavgen.config import Config
from uniavgen.errors import ConfigError
from uniavgen.training.codecs.clips import ClipPictures, RegionWeights
from uniavgen.training.codecs.loop import LoopConfig, Objective, seeded, step_rng


@dataclass(frozen=True, kw_only=True)
class Phase(Config):
    """A stretch of the training with batches of one shape."""

    share: float
    """Of all steps."""
    num_frames: int = 1
    batch_size: int = 8
    crop_px: int | None = None
    """Side of the crops, centred on pixels drawn by weight; None for whole pictures. A quarter of the picture costs a
    quarter, and the autoencoder does not know where it is."""


@dataclass(frozen=True, kw_only=True)
class VideoVaeTraining(Config):
    """A video autoencoder and how it is trained."""

    model: VideoVaeShape = field(default_factory=VideoVaeShape)
    loop: LoopConfig
    phases: tuple[Phase, ...] = (Phase(share=0.7), Phase(share=0.3, num_frames=9, batch_size=1))
    size_px: int = 128
    gradient_weight: float = 1.0
    """Of the distance between differences of neighbouring pixels."""
    kl_weight: float = 3e-4
    """Of the mean divergence of a latent value from a unit normal, in nats."""
    regions: RegionWeights = field(default_factory=RegionWeights)

    def __post_init__(self) -> None:
        shares = sum(phase.share for phase in self.phases)
        if abs(shares - 1) > 1e-6:
            raise ConfigError(f"the shares of the phases must add up to 1, got {shares}")

    def phase(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.loop.steps
        return self.phases[min(int(np.searchsorted(ends, step, side="right")), len(self.phases) - 1)]


class VideoVaeObjective(Objective):
    """Reconstruction of pictures and clips."""

    def __init__(self, config: VideoVaeTraining, pictures: ClipPictures, device: torch.device) -> None:
        self.config = config
        self.pictures = pictures
        self.device = device
        with seeded(config.loop.seed):
            self.model = config.model.build()
        start_as_pictures(self.model)
        use_picture_convolutions(self.model)
        self.model.to(device)

    @classmethod
    def from_folder(cls, config: VideoVaeTraining, folder: Path, device: torch.device) -> "VideoVaeObjective":
        """The objective over the clips of a folder of shards."""
        return cls(config, ClipPictures(folder, config.size_px, config.regions), device)

    def losses(self, step: int) -> dict[str, Tensor]:
        rng = step_rng(self.config.loop.seed, step)
        pixels, weights = self._batch(rng, self.config.phase(step))
        posterior = self.model.encode(pixels).latent_dist
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(posterior.mean.shape, generator=generator, device=self.device)
        made = decode_unclamped(self.model, posterior.mean + posterior.std * noise)
        pixel, gradient = reconstruction_distance(made, pixels, weights)
        kl = (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean() / 2
        total = pixel + self.config.gradient_weight * gradient + self.config.kl_weight * kl
        return {"total": total, "pixel": pixel.detach(), "gradient": gradient.detach(), "kl": kl.detach()}

    def _batch(self, rng: np.random.Generator, phase: Phase) -> tuple[Tensor, Tensor]:
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
    """Weighted L1 of pixels, and of horizontal and vertical differences at full, half and quarter size."""
    weights = weights / weights.mean()
    difference = rearrange(made - target, "b rgb F H W -> (b F) rgb H W")
    scale_weights = rearrange(weights, "b one F H W -> (b F) one H W")
    pixel = (difference.abs() * scale_weights).mean()
    gradients = []
    for _ in range(3):
        across, down = difference.diff(dim=-1).abs(), difference.diff(dim=-2).abs()
        gradients.append((across * scale_weights[..., 1:]).mean() + (down * scale_weights[..., 1:, :]).mean())
        difference, scale_weights = F.avg_pool2d(difference, 2), F.avg_pool2d(scale_weights, 2)
    return pixel, torch.stack(gradients).mean()


class PictureConvolution(WanCausalConv3d):
    """The causal convolution, which for a clip's first frame skips the taps that would see zeros: a third of the work.

    Same parameters under the same names as the module it stands for.
    """

    @classmethod
    def of(cls, other: WanCausalConv3d) -> "PictureConvolution":
        with torch.device("meta"):
            made = cls(other.in_channels, other.out_channels, other.kernel_size, other.stride)
        made.weight, made.bias = other.weight, other.bias
        made._padding = other._padding
        return made

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if x.shape[2] > 1 or cache_x is not None or self.stride[0] > 1:
            return super().forward(x, cache_x)
        left, _, top, _, _, _ = self._padding
        return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, self.stride[1:], (top, left))[:, :, None]


@torch.no_grad()
def start_as_pictures(vae: AutoencoderKLWan) -> None:
    """Let an autoencoder treat every frame like the first, by its weights: a clip becomes every fourth of its pictures.

    Taps that see earlier frames are zero, and the convolutions that change the frame rate copy. What the picture phase
    then learns holds for clips from their first step: error on frames after the first 0.09 instead of 0.23. [ours]
    """
    for name, module in vae.named_modules():
        if not isinstance(module, WanCausalConv3d) or module.kernel_size[0] == 1:
            continue
        if "time_conv" in name:
            copies = module.out_channels // module.in_channels
            module.weight.zero_()
            module.weight[:, :, -1, 0, 0] = torch.eye(module.in_channels).repeat(copies, 1)
            if module.bias is not None:
                module.bias.zero_()
        else:
            module.weight[:, :, :-1] = 0


def use_picture_convolutions(vae: AutoencoderKLWan) -> None:
    """Exchange an autoencoder's convolutions for `PictureConvolution`; its state dict stays what it was."""
    convolutions = {name: module for name, module in vae.named_modules() if type(module) is WanCausalConv3d}
    for name, module in convolutions.items():
        vae.set_submodule(name, PictureConvolution.of(module))


@torch.no_grad()
def latent_statistics(
    vae: AutoencoderKLWan, pictures: ClipPictures, num_clips: int, num_frames: int = 17
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


def finish(vae: AutoencoderKLWan, pictures: ClipPictures, num_clips: int = 64) -> None:
    """Store the statistics of the latents in the autoencoder's config, where `VideoCodec` finds them."""
    mean, deviation = latent_statistics(vae, pictures, num_clips)
    vae.register_to_config(latents_mean=mean, latents_std=deviation)
