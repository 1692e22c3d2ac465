"""RAFT: optical flow by recurrent look-ups of all-pairs correlation, after its paper, with the published names of
weights. [Teed and Deng, 2020; weights raft-things.pth, whose names begin with "module."]

Letters: b pairs, c channels, h w an eighth of the picture, H W pixels, n look-ups.
"""

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN, CONTEXT, FEATURES = 128, 128, 256
LEVELS, RADIUS = 4, 4
STRIDE = 8
SPAN = 2 * RADIUS + 1


class Residual(nn.Module):
    """Two 3x3 convolutions; where it strides, the shortcut is a normalised convolution."""

    def __init__(self, before: int, after: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm1, self.norm2 = norm(after), norm(after)
        self.downsample: nn.Module | None = None
        if stride > 1:
            # Stored under two names in the published file.
            self.norm3 = norm(after)
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride), self.norm3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        hidden = F.relu(self.norm1(self.conv1(x)))
        hidden = F.relu(self.norm2(self.conv2(hidden)))
        return F.relu((x if self.downsample is None else self.downsample(x)) + hidden)


class Encoder(nn.Module):
    """Pictures to features at an eighth of their size."""

    def __init__(self, features: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.norm1 = norm(64)
        self.layer1 = nn.Sequential(Residual(64, 64, 1, norm), Residual(64, 64, 1, norm))
        self.layer2 = nn.Sequential(Residual(64, 96, 2, norm), Residual(96, 96, 1, norm))
        self.layer3 = nn.Sequential(Residual(96, 128, 2, norm), Residual(128, 128, 1, norm))
        self.conv2 = nn.Conv2d(128, features, 1)

    def forward(self, pictures: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        x = F.relu(self.norm1(self.conv1(pictures)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class MotionEncoder(nn.Module):
    """Correlations around the present flow, and the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * SPAN**2, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(256, 126, 3, padding=1)

    def forward(self, flow: Float[Tensor, "b 2 h w"], found: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 128 h w"]:
        correlation = F.relu(self.convc2(F.relu(self.convc1(found))))
        moved = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([correlation, moved], dim=1))), flow], dim=1)


class Recurrence(nn.Module):
    """A gated recurrent unit, along rows and then along columns."""

    def __init__(self) -> None:
        super().__init__()
        for number, (kernel, padding) in enumerate((((1, 5), (0, 2)), ((5, 1), (2, 0))), start=1):
            for gate in "zrq":
                conv = nn.Conv2d(HIDDEN + CONTEXT + 128, HIDDEN, kernel, padding=padding)
                self.add_module(f"conv{gate}{number}", conv)

    def forward(self, state: Float[Tensor, "b 128 h w"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 128 h w"]:
        for number in (1, 2):
            both = torch.cat([state, x], dim=1)
            update = torch.sigmoid(self.get_submodule(f"convz{number}")(both))
            reset = torch.sigmoid(self.get_submodule(f"convr{number}")(both))
            proposed = torch.tanh(self.get_submodule(f"convq{number}")(torch.cat([reset * state, x], dim=1)))
            state = (1 - update) * state + update * proposed
        return state


class FlowHead(nn.Module):
    """State to a change of the flow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, state: Float[Tensor, "b 128 h w"]) -> Float[Tensor, "b 2 h w"]:
        return self.conv2(F.relu(self.conv1(state)))


class Update(nn.Module):
    """One look-up: state, change of the flow, weights of the upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.gru, self.flow_head = MotionEncoder(), Recurrence(), FlowHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, STRIDE**2 * 9, 1))


class Raft(nn.Module):
    """The large model: 5.3M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = Encoder(FEATURES, nn.InstanceNorm2d)
        self.cnet = Encoder(HIDDEN + CONTEXT, nn.BatchNorm2d)
        self.update_block = Update()

    def forward(
        self, first: Float[Tensor, "b 3 H W"], second: Float[Tensor, "b 3 H W"], look_ups: int = 20
    ) -> Float[Tensor, "b 2 H W"]:
        """Flow in pixels, x and y, from pictures in 0 to 255; any size, edges are repeated to whole eighths."""
        height, width = first.shape[-2:]
        first, second = (_padded(picture) / 127.5 - 1 for picture in (first, second))
        pyramid = _pyramid(*self.fnet(torch.cat([first, second])).chunk(2))
        state, context = self.cnet(first).split([HIDDEN, CONTEXT], dim=1)
        state, context = torch.tanh(state), torch.relu(context)
        start = _places(state)
        at, block = start, self.update_block
        for _ in range(look_ups):
            flow = at - start
            motion = block.encoder(flow, _look_up(pyramid, at))
            state = block.gru(state, torch.cat([context, motion], dim=1))
            at = at + block.flow_head(state)
        full = _upsampled(at - start, 0.25 * block.mask(state))
        top, left = (full.shape[-2] - height) // 2, (full.shape[-1] - width) // 2
        return full[..., top : top + height, left : left + width]


def _padded(picture: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H2 W2"]:
    rows, columns = (-side % STRIDE for side in picture.shape[-2:])
    return F.pad(picture, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), mode="replicate")


def _places(like: Tensor) -> Float[Tensor, "b 2 h w"]:
    """x and y of every place."""
    batch, _, height, width = like.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).to(like).expand(batch, 2, height, width)


def _pyramid(first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"]) -> list[Tensor]:
    """Correlation of every place with every place, at four sizes of the second picture: `(b h w) 1 h2 w2`."""
    pairs = torch.einsum("bchw,bcyx->bhwyx", first, second) / first.shape[1] ** 0.5
    levels = [rearrange(pairs, "b h w y x -> (b h w) 1 y x")]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _look_up(pyramid: list[Tensor], at: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b c h w"]:
    """Correlations in a square of 9 x 9 around every place, at every size."""
    batch, _, height, width = at.shape
    reach = torch.arange(-RADIUS, RADIUS + 1).to(at)
    # The published weights take the square's columns first.
    around = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1)
    found = []
    for level, pairs in enumerate(pyramid):
        middle = rearrange(at, "b c h w -> (b h w) 1 1 c") / 2**level
        rows, columns = pairs.shape[-2:]
        scale = torch.tensor([max(columns - 1, 1), max(rows - 1, 1)]).to(at)
        grid = 2 * (middle + around) / scale - 1
        seen = F.grid_sample(pairs, grid, align_corners=True)
        found.append(rearrange(seen, "(b h w) 1 i j -> b (i j) h w", b=batch, h=height, w=width))
    return torch.cat(found, dim=1)


def _upsampled(flow: Float[Tensor, "b 2 h w"], weights: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 H W"]:
    """Each fine place is a convex combination of the 9 coarse ones around it."""
    shares = rearrange(weights, "b (n y x) h w -> b 1 n y x h w", n=9, y=STRIDE, x=STRIDE).softmax(dim=2)
    around = F.unfold(STRIDE * flow, 3, padding=1)
    around = rearrange(around, "b (c n) (h w) -> b c n 1 1 h w", c=2, n=9, h=flow.shape[2])
    fine = reduce(shares * around, "b c n y x h w -> b c y x h w", "sum")
    return rearrange(fine, "b c y x h w -> b c (h y) (w x)")
