"""Rotary position angles of both branches and of their interaction.

Video turns its channel pairs by latent frame, row and column (Wan's split of the head), audio and speech text all of
them by one index. Tables are float32 and made once per size.

Letters: s positions, r = head_dim / 2 channel pairs, t rows columns: pairs turned by time, row and column.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

THETA = 10_000.0


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of every channel pair, broadcast against `... s heads (r 2)`."""

    cos: Float[Tensor, "*s r"]
    sin: Float[Tensor, "*s r"]


def apply_rotary(x: Float[Tensor, "*b s heads d"], rotary: Rotary) -> Float[Tensor, "*b s heads d"]:
    """Rotates neighbouring channels (2i, 2i + 1) of every head by the angles of their position."""
    cos, sin = rotary.cos.unsqueeze(-2), rotary.sin.unsqueeze(-2)
    if torch.compiler.is_compiling():  # Inductor fuses this and not complex numbers.
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)
    # The same numbers (to the bit with heads of 16 channels or a multiple); on a CPU nine times as fast to train.
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).type_as(x)


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Returns how many channel pairs are rotated by time, row and column. [Wan]"""
    side = head_dim // 6
    return head_dim // 2 - 2 * side, side, side


def rotary_1d(length: int, head_dim: int, device: torch.device) -> Rotary:
    """Returns angles of one index over the whole head: audio tokens, and speech symbols where they are counted.
    [release]"""
    return _cached_rotary(_angles, device, length, head_dim)


def rotary_at_times(times: Float[Tensor, "b s"], head_dim: int) -> Rotary:
    """Returns angles `b s r` of symbols at the audio tokens `times`, which differ from text to text, at the speeds of
    `line_rotary`."""
    angles = times.float()[..., None] * _frequencies(head_dim).float().to(times.device)
    return Rotary(angles.cos(), angles.sin())


def rotary_3d(frames: int, height: int, width: int, head_dim: int, device: torch.device) -> Rotary:
    """Returns angles of latent frame, row and column; frame 0 is the reference image. [Wan, release]"""
    return _cached_rotary(_angles_3d, device, frames, height, width, head_dim)


def interaction_video_rotary(
    height: int, width: int, head_dim: int, device: torch.device, times: tuple[float, ...] = (0.0,)
) -> Rotary:
    """Returns angles `times n r`: row and column as in video, time in audio tokens; one time for all tokens of a latent
    frame.

    Time 0 leaves the time pairs as they are, which is how interaction sees the picture. [release]
    """
    return _cached_rotary(_interaction_video_angles, device, height, width, head_dim, times)


def interaction_audio_rotary(times: tuple[float, ...], head_dim: int, device: torch.device) -> Rotary:
    """Returns angles `s r` of audio tokens as interaction sees them: only time pairs turn, at the audio branch's
    speeds. [release]"""
    return _cached_rotary(_interaction_audio_angles, device, times, head_dim)


@lru_cache(maxsize=64)
def _cached_rotary(make: Callable[..., Tensor], device: torch.device, *sizes: int | tuple[float, ...]) -> Rotary:
    # Kept tensors serve training too, so they must not be born in inference mode.
    with torch.inference_mode(False), torch.no_grad():
        angles = make(*sizes)
        return Rotary(angles.cos().float().to(device), angles.sin().float().to(device))


def _frequencies(channels: int) -> Float[Tensor, " r"]:
    return 1.0 / THETA ** (torch.arange(0, channels, 2, dtype=torch.float64) / channels)


def _angles(positions: int | tuple[float, ...], channels: int, pairs: int | None = None) -> Float[Tensor, "s r"]:
    places = torch.arange(positions) if isinstance(positions, int) else torch.tensor(positions)
    return torch.outer(places.double(), _frequencies(channels)[:pairs])


def _angles_3d(frames: int, height: int, width: int, head_dim: int) -> Float[Tensor, "s r"]:
    t, rows, columns = axis_pairs(head_dim)
    return torch.cat(
        [
            repeat(_angles(frames, 2 * t), "f r -> (f h w) r", h=height, w=width),
            repeat(_angles(height, 2 * rows), "h r -> (f h w) r", f=frames, w=width),
            repeat(_angles(width, 2 * columns), "w r -> (f h w) r", f=frames, h=height),
        ],
        dim=-1,
    )


def _interaction_video_angles(
    height: int, width: int, head_dim: int, times: tuple[float, ...]
) -> Float[Tensor, "f n r"]:
    t, rows, columns = axis_pairs(head_dim)
    f, h, w = len(times), height, width
    return torch.cat(
        [
            repeat(_angles(times, head_dim, t), "f r -> f (h w) r", h=h, w=w),
            repeat(_angles(h, 2 * rows), "h r -> f (h w) r", f=f, w=w),
            repeat(_angles(w, 2 * columns), "w r -> f (h w) r", f=f, h=h),
        ],
        dim=-1,
    )


def _interaction_audio_angles(times: tuple[float, ...], head_dim: int) -> Float[Tensor, "s r"]:
    t, rows, columns = axis_pairs(head_dim)
    turning = _angles(times, head_dim, t)
    return torch.cat([turning, turning.new_zeros(len(times), rows + columns)], dim=-1)
