"""Encodes pixels as normalised latents and decodes them, with diffusers' causal video autoencoder. [release]

The first latent frame spans one pixel frame and depends on nothing after it, so the latent of an image is the first
latent frame of a clip that begins with it. Every other latent frame spans `Timebase.temporal_stride` pixel frames.

Letters: b batch, F H W pixel frames, f h w latent frames, c latent channels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d, patchify, unpatchify
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from uniavgen.codecs.tiles import Tile, TileBlender, tiles_covering
from uniavgen.config import Config, LayerCount, Width
from uniavgen.errors import ConfigError, MediaError
from uniavgen.timebase import Timebase

DecodeProgress = Callable[[int, int], None]
"""Is called with (latent frames done, all latent frames); a latent frame counts once for each tile."""
_PATCH_PX = 2
"""Side in pixels of the patches that become channels before the first level. [Wan2.2]"""


@dataclass(frozen=True, kw_only=True)
class VideoVaeShape(Config):
    """Sizes an AutoencoderKLWan with the structure of Wan2.2's; the defaults have as many levels. [ours]"""

    width: Width = 16
    decoder_width: Width = 16
    latent_channels: Width = 48
    width_factors: tuple[Width, ...] = (1, 2, 4, 4)
    blocks_per_level: LayerCount = 1
    """Residual blocks of an encoder level; a decoder level has one more."""
    temporal_levels: tuple[bool, ...] = (False, True, True)
    """Levels that halve the frame rate."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.temporal_levels) == len(self.width_factors) - 1 <= 6:
            raise ConfigError(
                f"width_factors has one value more than temporal_levels, which has 1 to 6, got "
                f"{len(self.width_factors)} and {len(self.temporal_levels)}"
            )

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent cell, each way: every level halves the frame, and so does Wan2.2's patch."""
        return _PATCH_PX * 2 ** len(self.temporal_levels)

    @property
    def temporal_stride(self) -> int:
        """Pixel frames per latent frame, except the first."""
        return 2 ** sum(self.temporal_levels)

    def build(self) -> AutoencoderKLWan:
        """Returns an autoencoder with random weights, and 0 and 1 as mean and standard deviation of latents."""
        return AutoencoderKLWan(
            base_dim=self.width,
            decoder_base_dim=self.decoder_width,
            z_dim=self.latent_channels,
            dim_mult=list(self.width_factors),
            num_res_blocks=self.blocks_per_level,
            temperal_downsample=list(self.temporal_levels),
            is_residual=True,
            in_channels=3 * _PATCH_PX**2,
            out_channels=3 * _PATCH_PX**2,
            patch_size=_PATCH_PX,
            scale_factor_spatial=self.spatial_stride,
            scale_factor_temporal=self.temporal_stride,
            latents_mean=[0.0] * self.latent_channels,
            latents_std=[1.0] * self.latent_channels,
        )


@dataclass(frozen=True)
class VideoCodec:
    """Encodes frames as normalised latents (the mean of the posterior) and decodes them, with a frozen autoencoder.

    Both run latent frame by latent frame with the autoencoder's causal cache, as the autoencoder itself does, so that a
    long video needs no more memory on the device than a short one.

    tile_px: side in pixels of the overlapping tiles in which larger frames are encoded or decoded, which differs a
        little from the whole frame; None for whole frames. ConfigError where it is no multiple of the spatial stride.
    """

    vae: AutoencoderKLWan

    @property
    def latent_channels(self) -> int:
        """Channels of the latents, c."""
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
        """Returns (z - mean) / std by channel, of the autoencoder's latents z."""
        return (latents - self._statistic(self.vae.config.latents_mean, latents)) / self._statistic(
            self.vae.config.latents_std, latents
        )

    def denormalise(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b c f h w"]:
        """Returns z std + mean by channel, the autoencoder's latents of normalised ones."""
        std = self._statistic(self.vae.config.latents_std, latents)
        return latents * std + self._statistic(self.vae.config.latents_mean, latents)

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 F H W"], tile_px: int | None = None) -> Float[Tensor, "b c f h w"]:
        """Returns normalised latents of an image (F = 1) or of 1 + 4n frames in [-1, 1]: the mean of the posterior.

        `pixels` may lie on the CPU; they are moved frame by frame. Raises ConfigError unless F is 1 + 4n, MediaError
        unless both sides are multiples of `spatial_stride`.
        """
        batch, _, num_frames, height, width = pixels.shape
        num_latent_frames = self._timebase.clip(num_frames).num_latent_frames
        if height % self.spatial_stride or width % self.spatial_stride:
            raise MediaError(
                f"picture sides must be multiples of {self.spatial_stride} for the video autoencoder, "
                f"got {width}x{height}; resize first"
            )
        cells = (height // self.spatial_stride, width // self.spatial_stride)
        tiles = self._tiles(*cells, tile_px)
        if len(tiles) == 1:
            return self.normalise(self._encoded(pixels))
        blend = TileBlender((batch, self.latent_channels, num_latent_frames, *cells))
        for tile in tiles:
            encoded = self._encoded(tile.scaled(self.spatial_stride).cut(pixels))
            blend.add(tile, slice(0, num_latent_frames), encoded)
        latents = blend.frames(slice(0, num_latent_frames))
        return self.normalise(latents.to(self.vae.device, self.vae.dtype))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "b c f h w"], progress: DecodeProgress | None = None, tile_px: int | None = None
    ) -> Float[Tensor, "b 3 F H W"]:
        """Returns the pixels in [-1, 1] of normalised latents; F = 1 + 4 (f - 1). See `decode_frames`."""
        return torch.cat(list(self.decode_frames(latents, progress, tile_px)), dim=2)

    def decode_frames(
        self, latents: Float[Tensor, "b c f h w"], progress: DecodeProgress | None = None, tile_px: int | None = None
    ) -> Iterator[Float[Tensor, "b 3 F H W"]]:
        """Yields the pixels in [-1, 1] of each latent frame: 1 pixel frame of the first, 4 of every other.

        They lie on the CPU where frames are decoded in tiles. `progress` is called before the first and after each
        latent frame of each tile.
        """
        latents = self.denormalise(latents.to(self.vae.device, self.vae.dtype))
        batch, _, num_latent_frames, *cells = latents.shape
        tiles = self._tiles(*cells, tile_px)
        total, done = len(tiles) * num_latent_frames, 0
        timing = self._timebase
        spans = [slice(timing.frames_in(i), timing.frames_in(i + 1)) for i in range(num_latent_frames)]
        size = (batch, 3, spans[-1].stop, *(self.spatial_stride * side for side in cells))
        blend = TileBlender(size) if len(tiles) > 1 else None
        if progress is not None:
            progress(0, total)
        for tile in tiles:
            for span, pixels in zip(spans, self._decoded(tile.cut(latents)), strict=True):
                done += 1
                if progress is not None:
                    progress(done, total)
                if blend is None:
                    yield pixels
                else:
                    blend.add(tile.scaled(self.spatial_stride), span, pixels)
        if blend is not None:
            yield from (blend.frames(span) for span in spans)

    @property
    def _timebase(self) -> Timebase:
        return Timebase(temporal_stride=self.temporal_stride)

    def _tiles(self, height: int, width: int, tile_px: int | None) -> list[Tile]:
        stride = self.spatial_stride
        if tile_px is not None and (tile_px < 1 or tile_px % stride):
            raise ConfigError(f"tiles are a multiple of {stride} px, got {tile_px}")
        return tiles_covering(height, width, None if tile_px is None else tile_px // stride)

    def _encoded(self, pixels: Float[Tensor, "b 3 F H W"]) -> Float[Tensor, "b c f h w"]:
        """Returns latents that are not normalised."""
        vae, cache = self.vae, _empty_cache(self.vae.encoder)
        count = self._timebase.latent_frames(pixels.shape[2])
        encoded = []
        for i in range(count):
            span = slice(self._timebase.frames_in(i), self._timebase.frames_in(i + 1))
            patches = patchify(pixels[:, :, span].to(vae.device, vae.dtype), vae.config.patch_size or 1)
            encoded.append(vae.encoder(patches, feat_cache=cache, feat_idx=[0]))
        return vae.quant_conv(torch.cat(encoded, dim=2)).chunk(2, dim=1)[0]

    def _decoded(self, latents: Float[Tensor, "b c f h w"]) -> Iterator[Float[Tensor, "b 3 F H W"]]:
        """Yields the pixels of each latent frame, of latents that are not normalised."""
        cache = _empty_cache(self.vae.decoder)
        with torch.no_grad():
            hidden = self.vae.post_quant_conv(latents)
        for i in range(latents.shape[2]):
            yield self._decoded_frame(hidden[:, :, i : i + 1], cache, is_first=i == 0)

    @torch.no_grad()
    def _decoded_frame(
        self, hidden: Float[Tensor, "b c 1 h w"], cache: list[Tensor | str | None], is_first: bool
    ) -> Float[Tensor, "b 3 F H W"]:
        """Decodes one latent frame; `cache` holds the last frames of each convolution and is updated in place."""
        patches = self.vae.decoder(hidden, feat_cache=cache, feat_idx=[0], first_chunk=is_first)
        return unpatchify(patches, self.vae.config.patch_size or 1).clamp(-1, 1)

    def _statistic(self, values: list[float], like: Tensor) -> Tensor:
        return rearrange(torch.tensor(values, device=like.device, dtype=like.dtype), "c -> 1 c 1 1 1")


def _empty_cache(half: nn.Module) -> list[Tensor | str | None]:
    """Returns the empty cache of the causal convolutions of an encoder or decoder, before the first frame."""
    return [None] * sum(isinstance(module, WanCausalConv3d) for module in half.modules())


def decode_unclamped(vae: AutoencoderKLWan, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 F H W"]:
    """Returns pixels before they are clipped to [-1, 1], where their gradient would be zero; for training.

    latents: not normalised.
    """
    chunks: list[Tensor] = []
    # `decode` clips what it returns, so the output of each call of the decoder is taken by a hook.
    handle = vae.decoder.register_forward_hook(lambda _module, _args, output: chunks.append(output))
    try:
        vae.decode(latents)
    finally:
        handle.remove()
    patch = vae.config.patch_size or 1
    patches = torch.cat(chunks, dim=2)
    return rearrange(patches, "b (c pw ph) F h w -> b c F (h ph) (w pw)", ph=patch, pw=patch)


def to_pixels(frames: Tensor) -> Float[Tensor, "b 3 F H W"]:
    """Returns uint8 frames `b F H W 3` as pixels in [-1, 1]: x / 127.5 - 1."""
    return rearrange(frames, "b F H W rgb -> b rgb F H W").float() / 127.5 - 1


def to_frames(pixels: Float[Tensor, "b 3 F H W"]) -> Tensor:
    """Returns pixels in [-1, 1] as uint8 frames `b F H W 3`: round((x + 1) 127.5), clipped."""
    levels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(levels, "b rgb F H W -> b F H W rgb")
