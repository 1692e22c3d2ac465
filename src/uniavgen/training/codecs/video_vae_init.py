"""Initial weights of a video autoencoder: the principal components of its images, and every frame as an image.

An autoencoder with random weights needs hours to reach what a linear map of the same size gives at once. So residual
branches and attention begin at zero; what is left is linear but for the two last norms, and its encoder can be set so
that each level keeps the principal components of its 2 x 2 blocks. [ours]

Letters: b batch, c channels, F H W frames, n blocks.
"""

import copy
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
from torch import Tensor, nn

_FEATURE_RMS = 2.0
"""Root mean square length of a feature vector after each level, without the constant channel below."""
_CONSTANT = 4.0
"""Value of each level's last channel: without it the encoder's last norm would remove the scale of its features."""
_LAST_GAIN = 0.5
"""Gain of that norm; small, so that the activation behind it is nearly linear."""
_MIN_SHARE = 0.15
"""Components weaker than this share of the strongest are not amplified to its strength."""
_LOG_VARIANCE = -7.0
"""Of the posterior at the start."""


@torch.no_grad()
def init_framewise(vae: AutoencoderKLWan) -> None:
    """Sets weights so that frames are independent: a latent frame is a mean of images, and is decoded to equal frames.

    Taps on earlier frames are zero; the convolutions that change the frame rate average and repeat. What was learned
    from images then holds for clips from their first step. [ours]
    """
    for name, module in vae.named_modules():
        if not isinstance(module, WanCausalConv3d) or module.kernel_size[0] == 1:
            continue
        if "time_conv" not in name:
            module.weight[:, :, :-1] = 0
            continue
        identity = torch.eye(module.in_channels)
        module.weight.zero_()
        if module.stride[0] == 2:
            module.weight[:, :, 1:, 0, 0] = rearrange(identity / 2, "o i -> o i 1").expand(-1, -1, 2)
        else:
            module.weight[:, :, -1, 0, 0] = identity.repeat(module.out_channels // module.in_channels, 1)
        if module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def init_with_principal_components(vae: AutoencoderKLWan, images: Float[Tensor, "b 3 1 H W"]) -> None:
    """Sets residual branches and attention to zero, and the encoder to the principal components of `images`.

    Each level keeps those of 2 x 2 blocks of the features below it. The decoder's convolutions stay random: nearest-
    neighbour upsampling cannot invert a block transform exactly, so the linear phase of training has to find the best
    approximation.
    """
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            _set_to_zero(module.conv2)
        elif isinstance(module, WanAttentionBlock):
            _set_to_zero(module.proj)
    encoder: Any = vae.encoder
    channels = vae.config.z_dim
    for module in encoder.modules():
        if isinstance(module, WanResidualBlock) and isinstance(module.conv_shortcut, WanCausalConv3d):
            _copy_channels(module.conv_shortcut)
    _copy_channels(encoder.conv_in)
    features = encoder.conv_in(patchify(images, vae.config.patch_size))
    for level in encoder.down_blocks:
        features = level(features) if level.downsampler is None else _keep_components(level, features)
    encoder.norm_out.gamma.fill_(_LAST_GAIN)
    features = F.silu(encoder.norm_out(features))[:, :channels]
    mean, deviation = features.mean(dim=(0, 2, 3, 4)), features.std(dim=(0, 2, 3, 4))
    gain = 1 / deviation.clamp(min=float(deviation.max()) * _MIN_SHARE)
    _copy_channels(encoder.conv_out)
    num_components = len(gain)
    encoder.conv_out.weight[:num_components] *= rearrange(gain, "c -> c 1 1 1 1")
    encoder.conv_out.bias[:num_components] = -mean * gain
    encoder.conv_out.weight[channels:] = 0
    encoder.conv_out.bias[channels:] = _LOG_VARIANCE
    _copy_channels(vae.quant_conv)
    _copy_channels(vae.post_quant_conv)


def linear_view(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Returns the autoencoder without its residual branches and attention; it shares the parameters of `vae`."""
    # Parameters and buffers that the memo of `deepcopy` lists are not copied but shared.
    shared = {id(tensor): tensor for tensor in (*vae.parameters(), *vae.buffers())}
    view = copy.deepcopy(vae, shared)
    for parent in list(view.modules()):
        for name, module in parent.named_children():
            if isinstance(module, WanResidualBlock):
                setattr(parent, name, _Shortcut(module.conv_shortcut))
            elif isinstance(module, WanAttentionBlock):
                setattr(parent, name, nn.Identity())
    return view


class _Shortcut(nn.Module):
    """A residual block without its branch, whose two convolutions are skipped in the autoencoder's cache of
    features."""

    def __init__(self, shortcut: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut

    def forward(self, x: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> Tensor:
        # The branch's convolutions, which would remember frames, are not there.
        del feat_cache, feat_idx
        return self.shortcut(x)


def _keep_components(level: Any, features: Float[Tensor, "b c 1 H W"]) -> Tensor:
    """Sets the strided convolution of a `WanResidualDownBlock` to principal components; returns the level's
    features."""
    for block in level.resnets:
        features = block.conv_shortcut(features)
    count = level.resnets[0].conv1.in_channels
    convolution = level.downsampler.resample[1]
    blocks = rearrange(features[:, :count], "b c 1 (h p) (w q) -> (b h w) (c p q)", p=2, q=2)
    mean = blocks.mean(dim=0)
    _, directions = torch.linalg.eigh((blocks - mean).T @ (blocks - mean) / len(blocks))
    num_components = min(convolution.out_channels - 1, directions.shape[1])
    components = directions.flip(1)[:, :num_components].T
    components = components * _FEATURE_RMS / ((blocks - mean) @ components.T).square().sum(dim=1).mean().sqrt()
    projection = blocks.new_zeros(convolution.out_channels, blocks.shape[1])
    projection[:num_components] = components
    # The level adds its shortcut, a fixed linear map of the same blocks, so the convolution makes up the difference.
    units = torch.eye(blocks.shape[1]).reshape(-1, count, 1, 2, 2)
    shortcut = level.avg_shortcut(units)[:, :, 0, 0, 0].T
    convolution.weight.zero_()
    convolution.weight[:, :count, :2, :2] = (projection - shortcut).reshape(-1, count, 2, 2)
    convolution.bias.zero_()
    convolution.bias[:num_components] = -components @ mean
    convolution.bias[-1] = _CONSTANT
    return level.downsampler(features) + level.avg_shortcut(features[:, :count])


def _set_to_zero(convolution: Any) -> None:
    convolution.weight.zero_()
    convolution.bias.zero_()


def _copy_channels(convolution: Any) -> None:
    """Sets output channel i to input channel i, and outputs without such an input to 0."""
    _set_to_zero(convolution)
    channels = torch.arange(min(convolution.weight.shape[:2]))
    row, column = (size // 2 for size in convolution.weight.shape[-2:])
    convolution.weight[channels, channels, -1, row, column] = 1
