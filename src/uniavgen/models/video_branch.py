"""Embeds latents and captions for the video branch, and predicts its velocity, as Wan2.2-TI2V-5B does. [paper 3.2]

Parameter names are those of diffusers' `WanTransformer3DModel`.

Letters: b batch, c channels, f latent frames, h w latent grid, k distinct times, d width, m caption tokens.
"""

import math

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.normalization import FP32LayerNorm
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.errors import ConfigError
from uniavgen.models.config import VideoConfig
from uniavgen.models.modulation import TimeEmbedding, shift_and_scale


class VideoConditionEmbedder(TimeEmbedding):
    """Embeds flow time and caption, under Wan's names."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config.time_frequencies, config.width)
        self.text_embedder = PixArtAlphaTextProjection(config.caption_width, config.width, act_fn="gelu_tanh")


class VideoStem(nn.Module):
    """Holds what the video branch has around its blocks: patch, time and caption embedding, and the output head."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv3d(config.latent_channels, config.width, config.patch, config.patch)
        self.condition_embedder = VideoConditionEmbedder(config)
        self.norm_out = FP32LayerNorm(config.width, config.norm_eps, elementwise_affine=False)
        self.proj_out = nn.Linear(config.width, config.latent_channels * math.prod(config.patch))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def embed(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b s d"]:
        """Embeds patches as tokens, ordered by frame, row and column.

        Raises ConfigError where the latent grid is no multiple of the patch.
        """
        _, rows, columns = self.config.patch
        if latents.shape[3] % rows or latents.shape[4] % columns:
            raise ConfigError(
                f"a latent picture is a multiple of {rows} x {columns}, got {latents.shape[3]} x {latents.shape[4]}"
            )
        tokens = self.patch_embedding(latents.to(self.patch_embedding.weight.dtype))
        return rearrange(tokens, "b d f h w -> b (f h w) d").contiguous()

    def project_caption(self, caption: Float[Tensor, "b m width"]) -> Float[Tensor, "b m_padded d"]:
        """Projects caption features, padded with zeros to `caption_tokens`, to the branch's width, by an MLP.

        Raises ConfigError where there are more.
        """
        missing = self.config.caption_tokens - caption.shape[1]
        if missing < 0:
            raise ConfigError(f"a caption has at most {self.config.caption_tokens} tokens, got {caption.shape[1]}")
        padded = F.pad(caption, (0, 0, 0, missing)).to(self.patch_embedding.weight.dtype)
        return self.condition_embedder.text_embedder(padded)

    def head(
        self,
        tokens: Float[Tensor, "b s d"],
        embedding: Float[Tensor, "b k d"],
        time_rows: Int[Tensor, "b f"] | None,
        frames: int,
        height: int,
    ) -> Float[Tensor, "b c f h w"]:
        """Returns the velocity of the latents, W ((1 + scale) * LN(x) + shift) + b in float32. [Wan]

        frames: latent frames of `tokens`; height: rows of tokens.
        """
        _, p, q = self.config.patch
        shift, scale = shift_and_scale(self.scale_shift_table, embedding, time_rows)
        hidden = rearrange(self.norm_out(tokens.float()), "b (f n) d -> b f n d", f=frames)
        hidden = self.proj_out((hidden * (1 + scale[:, :, None]) + shift[:, :, None]).type_as(tokens))
        return rearrange(hidden, "b f (h w) (p q c) -> b c f (h p) (w q)", h=height, p=p, q=q).float()
