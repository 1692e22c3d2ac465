"""Layers of the small networks trained here: residual blocks over images and over time.

Letters: b batch, c channels, h w feature map, n steps.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseBlock(nn.Module):
    """Residual block: depthwise 3x3 convolution, then two 1x1 convolutions over the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    @property
    def last(self) -> nn.Conv2d:
        """Returns the layer that starts at zero, so that a fresh block is the identity."""
        return self.narrow

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.narrow(F.relu(self.widen(self.norm(self.spatial(x)))))


class FullConvBlock(nn.Module):
    """Residual block of two full 3x3 convolutions: dearer than `DepthwiseBlock`, better at small differences."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.last(self.layers(x))


class DilatedConvBlock(nn.Module):
    """Residual block of one dilated convolution over time."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.over_time = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)

    @property
    def last(self) -> nn.Conv1d:
        """Returns the layer that starts at zero, so that a fresh block is the identity."""
        return self.over_time

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        return x + self.over_time(F.relu(self.norm(x)))


def image_features(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    """Returns layers from images `b in_channels H W` to a map `b out_channels H/8 W/8`; the last level is `width`
    channels wide."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        DepthwiseBlock(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        DepthwiseBlock(32),
        nn.Conv2d(32, width, 3, stride=2, padding=1),
        DepthwiseBlock(width),
        DepthwiseBlock(width),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, out_channels, 1),
    )
