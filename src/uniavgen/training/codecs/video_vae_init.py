"""Where a video autoencoder begins: as the principal components of its pictures, and every clip as its pictures.

An autoencoder with random weights needs hours to reach what a linear map of the same size gives at once. So residual
branches and attention begin at zero; what is left is linear but for the two last norms, and its encoder can be set so
that each level keeps the principal components of its 2 x 2 blocks. [ours]

Letters: b batch, c channels, F H W frames, n blocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResidualBlock,
    patchify,
)
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_STREAM_RMS = 2.0
"""Length of an average feature vector after each level, over the constant channel below."""
_CONSTANT = 4.0
"""Value of each level's last channel: without it the encoder's last norm would forget how strong its features are."""
_LAST_GAIN = 0.5
"""Of that norm: features stay where the activation behind it is nearly linear."""
_LEAST_SHARE = 0.15
"""Components weaker than this share of the strongest are not amplified to its strength."""
_LOG_VARIANCE = -7.0
"""Of the latents' noise at the start."""


@torch.no_grad()
def init_framewise(vae: AutoencoderKLWan) -> None:
    """Let an autoencoder treat frames alike, by its weights: a latent frame is a mean of pictures, decoded as a still.

    Taps that see earlier frames are zero; the convolutions that change the frame rate average and copy. What pictures
    alone teach then holds for clips from their first step. [ours]
    """
    for name, module in vae.named_modules():
        if not isinstance(module, WanCausalConv3d) or module.kernel_size[0] == 1:
            continue
        if "time_conv" not in name:
            module.weight[:, :, :-1] = 0
            continue
        same = torch.eye(module.in_channels)
        module.weight.zero_()
        if module.stride[0] == 2:
            module.weight[:, :, 1:, 0, 0] = rearrange(same / 2, "o i -> o i 1").expand(-1, -1, 2)
        else:
            module.weight[:, :, -1, 0, 0] = same.repeat(module.out_channels // module.in_channels, 1)
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def init_with_principal_components(vae: AutoencoderKLWan, pictures: Float[Tensor, "b 3 1 H W"]) -> None:
    """Silence residual branches and attention, and let the encoder keep the principal components of `pictures`.

    Level by level, of 2 x 2 blocks of the features before. The decoder's convolutions stay random: nearest-neighbour
    upsampling cannot undo a block transform exactly, so the linear phase of training has to find what can be done.
    """
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            _silence(module.conv2)
        elif isinstance(module, WanAttentionBlock):
            _silence(module.proj)
    encoder: Any = vae.encoder
    channels = vae.config.z_dim
    for module in encoder.modules():
        if isinstance(module, WanResidualBlock) and isinstance(module.conv_shortcut, WanCausalConv3d):
            _copy_channels(module.conv_shortcut)
    _copy_channels(encoder.conv_in)
    features = encoder.conv_in(patchify(pictures, vae.config.patch_size))
    for level in encoder.down_blocks:
        features = level(features) if level.downsampler is None else _keep_components(level, features)
    encoder.norm_out.gamma.fill_(_LAST_GAIN)
    features = F.silu(encoder.norm_out(features))[:, :channels]
    mean, deviation = features.mean(dim=(0, 2, 3, 4)), features.std(dim=(0, 2, 3, 4))
    gain = 1 / deviation.clamp(min=float(deviation.max()) * _LEAST_SHARE)
    _copy_channels(encoder.conv_out)
    kept = len(gain)
    encoder.conv_out.weight[:kept] *= rearrange(gain, "c -> c 1 1 1 1")
    encoder.conv_out.bias[:kept] = -mean * gain
    encoder.conv_out.weight[channels:] = 0
    encoder.conv_out.bias[channels:] = _LOG_VARIANCE
    _copy_channels(vae.quant_conv)
    _copy_channels(vae.post_quant_conv)


@contextmanager
def linear_part(vae: AutoencoderKLWan) -> Iterator[None]:
    """Run an autoencoder without its residual branches and attention."""
    branches = [module for module in vae.modules() if isinstance(module, WanResidualBlock | WanAttentionBlock)]
    for module in branches:
        module.forward = partial(_shortcut, module) if isinstance(module, WanResidualBlock) else _unchanged
    try:
        yield
    finally:
        for module in branches:
            del module.forward


def _shortcut(block: WanResidualBlock, x: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> Tensor:
    """A residual block's shortcut; its two convolutions are passed over in the autoencoder's cache."""
    assert feat_cache
    feat_idx[0] += 2
    return block.conv_shortcut(x)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _keep_components(level: Any, features: Float[Tensor, "b c 1 H W"]) -> Tensor:
    """Set the strided convolution of a `WanResidualDownBlock` to give components of blocks; returns its features."""
    for block in level.resnets:
        features = block.conv_shortcut(features)
    count = level.resnets[0].conv1.in_channels
    convolution = level.downsampler.resample[1]
    blocks = rearrange(features[:, :count], "b c 1 (h p) (w q) -> (b h w) (c p q)", p=2, q=2)
    mean = blocks.mean(dim=0)
    _, directions = torch.linalg.eigh((blocks - mean).T @ (blocks - mean) / len(blocks))
    kept = min(convolution.out_channels - 1, directions.shape[1])
    components = directions.flip(1)[:, :kept].T
    components = components * _STREAM_RMS / ((blocks - mean) @ components.T).square().sum(dim=1).mean().sqrt()
    wanted = blocks.new_zeros(convolution.out_channels, blocks.shape[1])
    wanted[:kept] = components
    # The level adds its shortcut to what the convolution gives: a fixed map of the same blocks.
    units = torch.eye(blocks.shape[1]).reshape(-1, count, 1, 2, 2)
    shortcut = level.avg_shortcut(units)[:, :, 0, 0, 0].T
    convolution.weight.zero_()
    convolution.weight[:, :count, :2, :2] = (wanted - shortcut).reshape(-1, count, 2, 2)
    convolution.bias.zero_()
    convolution.bias[:kept] = -components @ mean
    convolution.bias[-1] = _CONSTANT
    return level.downsampler(features) + level.avg_shortcut(features[:, :count])


def _silence(convolution: Any) -> None:
    convolution.weight.zero_()
    convolution.bias.zero_()


def _copy_channels(convolution: Any) -> None:
    """Channel i of the output is channel i of the input; outputs that have no such input are 0."""
    _silence(convolution)
    same = torch.arange(min(convolution.weight.shape[:2]))
    rows, columns = (size // 2 for size in convolution.weight.shape[-2:])
    convolution.weight[same, same, -1, rows, columns] = 1
