"""RAFT: optical flow by recurrent look-ups of all-pairs correlation. [Teed and Deng, 2020]

Names of the layers as in the published weights raft-things.pth, without their prefix "module.".

Letters: b pairs, c channels, h w an eighth of the image, H W pixels, n look-ups.
"""

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN, CONTEXT, FEATURES = 128, 128, 256
LEVELS, RADIUS = 4, 4
STRIDE = 8
WINDOW = 2 * RADIUS + 1


class RaftResidualBlock(nn.Module):
    """Two 3x3 convolutions; where it strides, the shortcut is a normalised convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm1, self.norm2 = norm(out_channels), norm(out_channels)
        self.downsample: nn.Module | None = None
        if stride > 1:
            # Stored under two names in the published file.
            self.norm3 = norm(out_channels)
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride), self.norm3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        hidden = F.relu(self.norm1(self.conv1(x)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        return F.relu((x if self.downsample is None else self.downsample(x)) + hidden)


class RaftEncoder(nn.Module):
    """Maps images to features at an eighth of their size."""

    def __init__(self, features: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.norm1 = norm(64)
        self.layer1 = nn.Sequential(RaftResidualBlock(64, 64, 1, norm), RaftResidualBlock(64, 64, 1, norm))
        self.layer2 = nn.Sequential(RaftResidualBlock(64, 96, 2, norm), RaftResidualBlock(96, 96, 1, norm))
        self.layer3 = nn.Sequential(RaftResidualBlock(96, 128, 2, norm), RaftResidualBlock(128, 128, 1, norm))
        self.conv2 = nn.Conv2d(128, features, 1)

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        x = F.relu(self.norm1(self.conv1(images)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class RaftMotionEncoder(nn.Module):
    """Features of the correlations around the current flow, and of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * WINDOW**2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(256, 126, 3, padding=1)

    def forward(
        self, flow: Float[Tensor, "b 2 h w"], correlations: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 128 h w"]:
        correlation = F.relu(self.convc2(F.relu(self.convc1(correlations))))
        flow_features = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([correlation, flow_features], dim=1))), flow], dim=1)


class RaftGRU(nn.Module):
    """A gated recurrent unit, along rows and then along columns."""

    def __init__(self) -> None:
        super().__init__()
        for number, (kernel, padding) in enumerate((((1, 5), (0, 2)), ((5, 1), (2, 0))), start=1):
            for gate in "zrq":
                conv = nn.Conv2d(HIDDEN + CONTEXT + 128, HIDDEN, kernel, padding=padding)
                self.add_module(f"conv{gate}{number}", conv)

    def forward(self, state: Float[Tensor, "b 128 h w"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 128 h w"]:
        for number in (1, 2):
            joined = torch.cat([state, x], dim=1)
            update = torch.sigmoid(self.get_submodule(f"convz{number}")(joined))
            reset = torch.sigmoid(self.get_submodule(f"convr{number}")(joined))
            candidate = torch.tanh(self.get_submodule(f"convq{number}")(torch.cat([reset * state, x], dim=1)))
            state = (1 - update) * state + update * candidate
        return state


class RaftFlowHead(nn.Module):
    """Maps the state to a change of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, state: Float[Tensor, "b 128 h w"]) -> Float[Tensor, "b 2 h w"]:
        return self.conv2(F.relu(self.conv1(state)))


class RaftUpdate(nn.Module):
    """The layers of one look-up: new state, change of the flow, weights of the upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.gru, self.flow_head = RaftMotionEncoder(), RaftGRU(), RaftFlowHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, STRIDE**2 * 9, 1))


class Raft(nn.Module):
    """The large model: 5.3M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = RaftEncoder(FEATURES, nn.InstanceNorm2d)
        self.cnet = RaftEncoder(HIDDEN + CONTEXT, nn.BatchNorm2d)
        self.update_block = RaftUpdate()

    def forward(
        self, first: Float[Tensor, "b 3 H W"], second: Float[Tensor, "b 3 H W"], num_lookups: int = 20
    ) -> Float[Tensor, "b 2 H W"]:
        """Returns the flow in pixels, x and y, between images in 0 to 255 of any size."""
        height, width = first.shape[-2:]
        # Edges are repeated so that both sides are multiples of the stride.
        first, second = (_padded(image) / 127.5 - 1 for image in (first, second))
        pyramid = _pyramid(*self.fnet(torch.cat([first, second])).chunk(2))
        state, context = self.cnet(first).split([HIDDEN, CONTEXT], dim=1)
        state, context = torch.tanh(state), torch.relu(context)
        grid = _coordinates(state)
        position, block = grid, self.update_block
        for _ in range(num_lookups):
            flow = position - grid
            motion = block.encoder(flow, _lookup(pyramid, position))
            state = block.gru(state, torch.cat([context, motion], dim=1))
            position = position + block.flow_head(state)
        full = _upsampled(position - grid, 0.25 * block.mask(state))
        top, left = (full.shape[-2] - height) // 2, (full.shape[-1] - width) // 2
        return full[..., top : top + height, left : left + width]


def _padded(image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H2 W2"]:
    rows, columns = (-side % STRIDE for side in image.shape[-2:])
    return F.pad(image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), mode="replicate")


def _coordinates(like: Tensor) -> Float[Tensor, "b 2 h w"]:
    """Returns x and y of every cell."""
    batch, _, height, width = like.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(like).expand(batch, 2, height, width)


def _pyramid(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> list[Tensor]:
    """Returns the correlation of all pairs of cells, at four sizes of the second image: `(b h w) 1 h2 w2`."""
    pairs = torch.einsum("bchw,bcyx->bhwyx", first, second) / first.shape[1] ** 0.5
    levels = [rearrange(pairs, "b h w y x -> (b h w) 1 y x")]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _lookup(pyramid: list[Tensor], position: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b c h w"]:
    """Returns the correlations in a square of 9 x 9 around every position, at every size."""
    batch, _, height, width = position.shape
    reach = torch.arange(-RADIUS, RADIUS + 1).to(position)
    # The published weights take the square's columns first.
    around = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
    correlations = []
    for level, pairs in enumerate(pyramid):
        middle = rearrange(position, "b c h w -> (b h w) 1 1 c") / 2**level
        rows, columns = pairs.shape[-2:]
        scale = torch.tensor([max(columns - 1, 1), max(rows - 1, 1)]).to(position)
        grid = 2 * (middle + around) / scale - 1
        sampled = F.grid_sample(pairs, grid, align_corners=True)
        correlations.append(rearrange(sampled, "(b h w) 1 i j -> b (i j) h w", b=batch, h=height, w=width))
    return torch.cat(correlations, dim=1)


def _upsampled(flow: Float[Tensor, "b 2 h w"], weights: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 H W"]:
    """Returns the flow at full size: each pixel is a convex combination of the 9 cells around it."""
    shares = rearrange(weights, "b (n y x) h w -> b 1 n y x h w", n=9, y=STRIDE, x=STRIDE).softmax(dim=2)
    around = F.unfold(STRIDE * flow, 3, padding=1)
    around = rearrange(around, "b (c n) (h w) -> b c n 1 1 h w", c=2, n=9, h=flow.shape[2])
    fine = reduce(shares * around, "b c n y x h w -> b c y x h w", "sum")
    return rearrange(fine, "b c y x h w -> b c (h y) (w x)")
