"""Causal convolutions whose newest tap alone matters, run as what they are: convolutions of pictures.

diffusers' video autoencoder gives every convolution three taps in time. The same values come for a third of the work
where the earlier two are zero, and in a first frame, before which there is nothing.

Letters: b batch, c channels, F H W frames.
"""

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from einops import rearrange
from torch import Tensor


class FrameConvolution(WanCausalConv3d):
    """A causal convolution that uses its newest tap alone wherever that is all it needs.

    Same parameters under the same names as the module it stands for; taps that see nothing get no gradient, so in
    training zeros stay zeros.
    """

    uses_current_frame_only: bool
    """Whether the newest tap is all there is, in every frame."""

    @classmethod
    def of(cls, other: WanCausalConv3d) -> "FrameConvolution":
        """Returns one that shares the parameters of `other`, which is padded to keep the size of its pictures."""
        # Every convolution of diffusers' autoencoder is padded so; the public `padding` of `other` is zero by design.
        padding = tuple(side // 2 for side in other.kernel_size)
        with torch.device("meta"):
            convolution = cls(other.in_channels, other.out_channels, other.kernel_size, other.stride, padding)
        convolution.weight, convolution.bias = other.weight, other.bias
        convolution.uses_current_frame_only = uses_current_frame_only(other)
        return convolution

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        is_first = cache_x is None and x.shape[2] == 1
        if not (self.uses_current_frame_only or is_first):
            return super().forward(x, cache_x)
        pictures = rearrange(x, "b c F H W -> (b F) c H W")
        padding = tuple(side // 2 for side in self.kernel_size[1:])
        convolved = F.conv2d(pictures, self.weight[:, :, -1], self.bias, self.stride[1:], padding)
        return rearrange(convolved, "(b F) c H W -> b c F H W", b=x.shape[0])


def use_frame_convolutions(vae: AutoencoderKLWan) -> None:
    """Exchanges the convolutions; values and state dict stay what they were.

    Those that change the frame rate are left alone: they are there to mix frames, whatever their weights are now.
    """
    for name, module in list(vae.named_modules()):
        if type(module) is WanCausalConv3d and not name.endswith("time_conv"):
            vae.set_submodule(name, FrameConvolution.of(module))


def uses_current_frame_only(convolution: WanCausalConv3d) -> bool:
    """Whether all its taps but the newest are zero; not known, and so False, on meta tensors."""
    weight = convolution.weight
    return not weight.is_meta and not bool(weight[:, :, :-1].any())
