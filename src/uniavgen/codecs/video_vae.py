"""Pixels to normalised latents and back, around diffusers' causal video autoencoder.

The first latent frame holds one pixel frame and depends on nothing after it, so an image's latent is the first latent
of a clip that begins with it; every other latent frame holds `Timebase.temporal_stride` pixel frames.

Letters: b batch, F H W pixel frames, f h w latent frames, c latent channels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLWan
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from uniavgen.config import Config
from uniavgen.errors import MediaError
from uniavgen.timebase import Timebase

Progress = Callable[[int, int], None]
"""Called with (latent frames done, latent frames in all)."""


@dataclass(frozen=True, kw_only=True)
class VideoVaeShape(Config):
    """Size of an AutoencoderKLWan of the Wan2.2 kind; the defaults are nano's [ours]."""

    width: int = 16
    decoder_width: int = 16
    latent_channels: int = 48
    width_factors: tuple[int, ...] = (1, 2, 4, 4)
    blocks_per_level: int = 1
    """Residual blocks of an encoder level; a decoder level has one more."""
    temporal_levels: tuple[bool, ...] = (False, True, True)
    """Levels that halve the frame rate."""

    def build(self) -> AutoencoderKLWan:
        """A new autoencoder with random weights; latents are not normalised until their statistics are known."""
        patch = 2
        return AutoencoderKLWan(
            base_dim=self.width,
            decoder_base_dim=self.decoder_width,
            z_dim=self.latent_channels,
            dim_mult=list(self.width_factors),
            num_res_blocks=self.blocks_per_level,
            temperal_downsample=list(self.temporal_levels),
            is_residual=True,
            in_channels=3 * patch**2,
            out_channels=3 * patch**2,
            patch_size=patch,
            scale_factor_spatial=patch * 2 ** len(self.temporal_levels),
            scale_factor_temporal=2 ** sum(self.temporal_levels),
            latents_mean=[0.0] * self.latent_channels,
            latents_std=[1.0] * self.latent_channels,
        )


class VideoCodec:
    """A frozen autoencoder as the rest of the project sees it: normalised latents, deterministic encoding."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae

    @property
    def latent_channels(self) -> int:
        return self.vae.config.z_dim

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell, each way."""
        return self.vae.config.scale_factor_spatial

    @property
    def temporal_stride(self) -> int:
        """Pixel frames per latent frame, except the first."""
        return self.vae.config.scale_factor_temporal

    def normalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """The autoencoder's own latents to mean 0 and deviation 1 per channel."""
        return (latents - self._statistic(self.vae.config.latents_mean, latents)) / self._statistic(
            self.vae.config.latents_std, latents
        )

    def denormalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """Normalised latents to the autoencoder's own."""
        std = self._statistic(self.vae.config.latents_std, latents)
        return latents * std + self._statistic(self.vae.config.latents_mean, latents)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 F H W"]) -> Float[Tensor, "b c f h w"]:
        """Normalised latents of an image (F = 1) or of 1 + 4n frames in [-1, 1]: the posterior's mean.

        Raises ConfigError unless F is 1 + 4n, MediaError unless both sides are multiples of `spatial_stride`.
        """
        num_frames, height, width = pixels.shape[2:]
        Timebase(temporal_stride=self.temporal_stride).clip(num_frames)
        if height % self.spatial_stride or width % self.spatial_stride:
            raise MediaError(
                f"picture sides must be multiples of {self.spatial_stride} for the video autoencoder, "
                f"got {width}x{height}; resize first"
            )
        return self.normalise(self.vae.encode(pixels.to(self.vae.dtype)).latent_dist.mode())

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c f h w"], progress: Progress | None = None
    ) -> Float[Tensor, "b 3 F H W"]:
        """Pixels in [-1, 1] of normalised latents; F = 1 + 4 (f - 1).

        `progress` is told after each latent frame (after the last one only, where the autoencoder works in tiles).
        """
        total = latents.shape[2]
        done = 0

        def count(*_: object) -> None:
            nonlocal done
            done += 1
            if progress is not None and not self.vae.use_tiling:
                progress(done, total)

        # The autoencoder decodes latent frame by latent frame through a private cache; its decoder module runs once a
        # frame, which a public hook can count.
        handle = self.vae.decoder.register_forward_hook(count)
        try:
            pixels = self.vae.decode(self.denormalise(latents.to(self.vae.dtype))).sample
        finally:
            handle.remove()
        if progress is not None and self.vae.use_tiling:
            progress(total, total)
        return pixels

    def _statistic(self, values: list[float], like: Tensor) -> Tensor:
        return rearrange(torch.tensor(values, device=like.device, dtype=like.dtype), "c -> 1 c 1 1 1")


def decode_unclamped(vae: AutoencoderKLWan, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 F H W"]:
    """Pixels of the autoencoder's own latents before they are clipped to [-1, 1]: what training needs gradients of."""
    chunks: list[Tensor] = []
    handle = vae.decoder.register_forward_hook(lambda _module, _args, output: chunks.append(output))
    try:
        vae.decode(latents)
    finally:
        handle.remove()
    patch = vae.config.patch_size or 1
    patches = torch.cat(chunks, dim=2)
    return rearrange(patches, "b (c pw ph) F h w -> b c F (h ph) (w pw)", ph=patch, pw=patch)


def to_pixels(frames: Tensor) -> Float[Tensor, "b 3 F H W"]:
    """uint8 frames `b F H W 3` to [-1, 1]."""
    return rearrange(frames, "b F H W rgb -> b rgb F H W").float() / 127.5 - 1


def to_frames(pixels: Float[Tensor, "b 3 F H W"]) -> Tensor:
    """[-1, 1] to uint8 frames `b F H W 3`, rounded."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(levels, "b rgb F H W -> b F H W rgb")
