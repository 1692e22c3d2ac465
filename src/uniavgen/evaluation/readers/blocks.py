"""What the networks of ours are built of: residual blocks over pictures and over time.

Letters: b batch, c channels, h w feature map, n steps.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Depthwise 3x3, then a two-layer mix of the channels, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    @property
    def last(self) -> nn.Conv2d:
        return self.narrow

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.narrow(F.relu(self.widen(self.norm(self.spatial(x)))))


class Residual(nn.Module):
    """Two full 3x3 convolutions with a residual: dearer than `Block`, and better at small differences."""

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


def picture_features(colours: int, width: int, outputs: int) -> nn.Sequential:
    """Pictures `b colours H W` to a feature map `b outputs H/8 W/8`; the last level is `width` wide."""
    return nn.Sequential(
        nn.Conv2d(colours, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        Block(32),
        nn.Conv2d(32, width, 3, stride=2, padding=1),
        Block(width),
        Block(width),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 1),
    )


class Ripple(nn.Module):
    """A convolution over time with a residual."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.over_time = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation)

    @property
    def last(self) -> nn.Conv1d:
        return self.over_time

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        return x + self.over_time(F.relu(self.norm(x)))
