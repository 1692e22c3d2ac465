"""Computes causal convolutions frame by frame, in 2D, wherever only their last tap in time contributes.

Most convolutions of diffusers' video autoencoder have three taps in time. Where the weights of the earlier two are
zero, and in a first frame, before which the padding is zero, a 2D convolution with the last tap has the same output
for a third of the operations. [ours]

Letters: b batch, c channels, F H W frames.
"""

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from einops import rearrange
from torch import Tensor


class FrameConvolution(WanCausalConv3d):
    """Computes a causal convolution in 2D where only its last tap in time contributes.

    It has the parameters of the module that it replaces, under the same names. Taps that are not used get no gradient,
    so zeros stay zeros in training.
    """

    uses_current_frame_only: bool
    """Whether all other taps are zero, so that every frame is convolved in 2D."""

    @classmethod
    def of(cls, other: WanCausalConv3d) -> "FrameConvolution":
        """Returns a convolution that shares the parameters of `other`, whose padding keeps the size of frames."""
        # Every convolution of diffusers' autoencoder is padded so; the public `padding` of `other` is zero by design.
        padding = tuple(side // 2 for side in other.kernel_size)
        with torch.device("meta"):
            convolution = cls(other.in_channels, other.out_channels, other.kernel_size, other.stride, padding)
        convolution.weight, convolution.bias = other.weight, other.bias
        convolution.uses_current_frame_only = uses_current_frame_only(other)
        return convolution

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        """Convolves frames `b c F H W`.

        cache_x: the last frames of the previous call; None before the first frame.
        """
        is_first = cache_x is None and x.shape[2] == 1
        if not (self.uses_current_frame_only or is_first):
            return super().forward(x, cache_x)
        frames = rearrange(x, "b c F H W -> (b F) c H W")
        padding = tuple(side // 2 for side in self.kernel_size[1:])
        convolved = F.conv2d(frames, self.weight[:, :, -1], self.bias, self.stride[1:], padding)
        return rearrange(convolved, "(b F) c H W -> b c F H W", b=x.shape[0])


def use_frame_convolutions(vae: AutoencoderKLWan) -> None:
    """Replaces the convolutions of an autoencoder in place; its outputs and its state dict stay the same.

    Those that change the frame rate stay: they mix frames by design, even where their weights are zero at first.
    """
    for name, module in list(vae.named_modules()):
        if type(module) is WanCausalConv3d and not name.endswith("time_conv"):
            vae.set_submodule(name, FrameConvolution.of(module))


def uses_current_frame_only(convolution: WanCausalConv3d) -> bool:
    """Returns whether all taps but the last are zero; False on meta tensors, whose values are unknown."""
    weight = convolution.weight
    return not weight.is_meta and not bool(weight[:, :, :-1].any())
