"""CAM++: a speaker embedding of 192 numbers, after its paper [arXiv 2303.00332], with the published names of weights.

A front of 2-D convolutions over the filter bank, then densely connected time-delay layers whose local output is
masked by what a whole segment and the whole clip hold ("context-aware masking").

Letters: b clips, t frames, m mel bins, c channels.
"""

from collections import OrderedDict

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

MEL_BINS, EMBEDDING = 80, 192
GROWTH, BOTTLENECK, WIDTH = 32, 128, 128
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of the three dense blocks."""
SEGMENT = 100
"""Frames of a segment of context-aware masking."""


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class CamResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; `stride` halves the mel axis only."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Float[Tensor, "b c m t"]) -> Float[Tensor, "b c m2 t"]:
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class CamFrontEnd(nn.Module):
    """The filter bank as a picture: an eighth of its mel bins, 32 channels."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(CamResidualBlock(channels, 2), CamResidualBlock(channels, 1))
        self.layer2 = nn.Sequential(CamResidualBlock(channels, 2), CamResidualBlock(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b c t"]:
        x = F.relu(self.bn1(self.conv1(rearrange(mel, "b t m -> b 1 m t"))))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return rearrange(x, "b c m t -> b (c m) t")


class ContextAwareMask(nn.Module):
    """A dilated convolution, masked by the means of the clip and of each segment."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(BOTTLENECK, BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK // 2, GROWTH, 1)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b g t"]:
        segments = repeat(F.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True), "b c s -> b c (s n)", n=SEGMENT)
        context = x.mean(dim=-1, keepdim=True) + segments[..., : x.shape[-1]]
        return self.linear_local(x) * torch.sigmoid(self.linear2(F.relu(self.linear1(context))))


class CamDenseLayer(nn.Module):
    """A bottleneck and a masked convolution; its output is joined to its input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm_relu(channels)
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm_relu(BOTTLENECK)
        self.cam_layer = ContextAwareMask(dilation)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c2 t"]:
        return torch.cat([x, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))], dim=1)


class CamTransition(nn.Module):
    """Between dense blocks: half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = _norm_relu(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c2 t"]:
        return self.linear(self.nonlinear(x))


class CamTimeDelay(nn.Module):
    """The first time-delay layer: every second frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, WIDTH, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _norm_relu(WIDTH)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c2 t2"]:
        return self.nonlinear(self.linear(x))


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over time."""

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c2 1"]:
        return torch.cat([x.mean(dim=-1), x.std(dim=-1)], dim=-1)[..., None]


class CamEmbedding(nn.Module):
    """To the embedding, normalised without scale and offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, EMBEDDING, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(EMBEDDING, affine=False)))

    def forward(self, x: Float[Tensor, "b c 1"]) -> Float[Tensor, "b d"]:
        return self.nonlinear(self.linear(x)[..., 0])


class CamPlusPlus(nn.Module):
    """Mean-normalised log filter bank to speaker embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.head = CamFrontEnd()
        layers: OrderedDict[str, nn.Module] = OrderedDict(tdnn=CamTimeDelay(32 * MEL_BINS // 8))
        channels = WIDTH
        for number, (depth, dilation) in enumerate(BLOCKS, start=1):
            dense = (CamDenseLayer(channels + i * GROWTH, dilation) for i in range(depth))
            layers[f"block{number}"] = nn.Sequential(
                OrderedDict((f"tdnnd{i}", d) for i, d in enumerate(dense, start=1))
            )
            channels += depth * GROWTH
            layers[f"transit{number}"] = CamTransition(channels)
            channels //= 2
        layers |= {
            "out_nonlinear": _norm_relu(channels),
            "stats": StatisticsPooling(),
            "dense": CamEmbedding(2 * channels),
        }
        self.xvector = nn.Sequential(layers)

    def forward(self, mel: Float[Tensor, "b t m"]) -> Float[Tensor, "b d"]:
        return self.xvector(self.head(mel))
