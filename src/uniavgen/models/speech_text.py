"""Encodes the text to be spoken: characters through ConvNeXtV2 blocks, one feature each. [paper 3.2, release]

Letters: b batch, p symbols, d width.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.config import SpeechTextConfig

FILLER = 0
"""Symbol id whose features are zero."""
THETA = 10_000.0


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its norm over the text, relative to the other channels. [ConvNeXtV2, arXiv 2301.00808]

    y = gamma * x * g / mean(g) + beta + x,   g = |x| over the symbols, mean over channels
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Float[Tensor, "b p d"], inside: Float[Tensor, "b p 1"]) -> Float[Tensor, "b p d"]:
        energy = torch.linalg.vector_norm(x * inside, dim=1, keepdim=True)
        return self.gamma * (x * (energy / (energy.mean(dim=-1, keepdim=True) + 1e-6))) + self.beta + x


class TextConvNeXtBlock(nn.Module):
    """Applies x + MLP(LN(DepthwiseConv_7(x))), with a global response norm inside the MLP. [ConvNeXtV2]"""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, kernel_size=7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, width * expansion)
        self.grn = GlobalResponseNorm(width * expansion)
        self.pwconv2 = nn.Linear(width * expansion, width)

    def forward(self, x: Float[Tensor, "b p d"], inside: Float[Tensor, "b p 1"]) -> Float[Tensor, "b p d"]:
        hidden = rearrange(self.dwconv(rearrange(x, "b p d -> b d p")), "b d p -> b p d")
        hidden = nn.functional.gelu(self.pwconv1(self.norm(hidden)))
        return x + self.pwconv2(self.grn(hidden, inside))


class SpeechTextEncoder(nn.Module):
    """Encodes symbol ids. A text has the same features alone and padded in a batch."""

    def __init__(self, config: SpeechTextConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.num_symbols + 1, config.width)
        self.blocks = nn.ModuleList(TextConvNeXtBlock(config.width, config.expansion) for _ in range(config.num_layers))
        self.config = config
        self.pace_head = None if config.initial_symbol_duration is None else nn.Linear(config.width, 1, bias=False)

    def forward(self, symbols: Int[Tensor, "b p"], length: Int[Tensor, " b"]) -> Float[Tensor, "b p d"]:
        """Returns the features of symbols, zero for fillers and past the length of a text.

        Both are set to zero before every block too, so that convolutions do not carry padding into the text.
        """
        x = self.embedding(symbols)
        x = x + _positions(symbols.shape[1], x.shape[-1], x.device).to(x.dtype)
        inside = (torch.arange(symbols.shape[1], device=x.device) < length[:, None])[..., None].to(x.dtype)
        spoken = inside * (symbols != FILLER)[..., None].to(x.dtype)
        x = x * spoken
        for block in self.blocks:
            x = block(x, inside) * spoken
        return x

    def predict_durations(self, features: Float[Tensor, "b p d"]) -> Float[Tensor, "b p"] | None:
        """Returns the predicted audio tokens from one symbol to the next: d_0 exp(w . features). [ours]

        None for a model without duration predictor, whose positions are symbol indices [release].
        """
        if self.pace_head is None or self.config.initial_symbol_duration is None:
            return None
        return self.config.initial_symbol_duration * self.pace_head(features)[..., 0].float().exp()


def complete_symbol_times(
    durations: Float[Tensor, "b p"], given_times: Float[Tensor, "b p"] | None, leading_silence: float
) -> Float[Tensor, "b p"]:
    """Returns the audio token at which each symbol is spoken: the given time, and where that is NaN, the time of the
    last symbol with a given time plus the predicted durations between. [ours]

    Without a given time before it, the first symbol stands at `leading_silence`.
    """
    elapsed = durations.cumsum(dim=1)
    if given_times is None:
        return leading_silence + elapsed - elapsed[:, :1]
    index = torch.arange(durations.shape[1], device=durations.device).expand_as(durations)
    is_given = ~given_times.isnan()
    # Index of the last symbol with a given time, -1 before the first one.
    last = torch.where(is_given, index, -1).cummax(dim=1).values
    start = torch.where(
        last < 0, leading_silence - elapsed[:, :1], (given_times - elapsed).gather(1, last.clamp(min=0))
    )
    return torch.where(is_given, given_times, start + elapsed)


def _positions(length: int, width: int, device: torch.device) -> Float[Tensor, "p d"]:
    """Returns sinusoidal position embeddings, cosines in the first half, sines in the second. [F5-TTS]"""
    frequencies = 1.0 / THETA ** (torch.arange(0, width, 2, device=device)[: width // 2].float() / width)
    angles = torch.outer(torch.arange(length, device=device).float(), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
