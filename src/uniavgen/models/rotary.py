"""Rotary position embeddings (RoPE) of both branches and of their interaction.

Channel pair i of a head is rotated by the angle p w_i of its position p, with the frequency

    w_i = THETA^(-2i / C),  i = 0 ... C/2 - 1,  C channels.

Audio and speech text rotate all pairs by one index. Video splits the pairs of a head among latent frame, row and
column, each with frequencies of its own [Wan]. Tables are computed in float64, stored in float32 and cached by size.

Letters: s positions, r = head_dim / 2 channel pairs, f h w latent frames, rows and columns of tokens, n = h w.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from uniavgen.models.cached_tables import cached_table

THETA = 10_000.0


@dataclass(frozen=True)
class Rotary:
    """Holds cosines and sines of every channel pair; they broadcast against queries and keys `... s heads (r 2)`."""

    cos: Float[Tensor, "*s r"]
    sin: Float[Tensor, "*s r"]


def apply_rotary(x: Float[Tensor, "*b s heads d"], rotary: Rotary) -> Float[Tensor, "*b s heads d"]:
    """Rotates neighbouring channels (2i, 2i + 1) of every head by the angles of their position.

    (x_2i, x_2i+1) -> (x_2i cos - x_2i+1 sin, x_2i sin + x_2i+1 cos), in float32; returns the dtype of x.
    """
    cos, sin = rotary.cos.unsqueeze(-2), rotary.sin.unsqueeze(-2)
    if torch.compiler.is_compiling():  # Inductor fuses this and not complex numbers.
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)
    # A product of complex numbers: equal (to the bit with heads of 16 channels or a multiple), and in training on a CPU
    # nine times as fast.
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).type_as(x)


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Returns how many channel pairs are rotated by time, row and column: a third each, time takes the rest. [Wan]"""
    per_side = head_dim // 6
    return head_dim // 2 - 2 * per_side, per_side, per_side


def rotary_1d(length: int, head_dim: int, device: torch.device) -> Rotary:
    """Returns `s r` of the positions 0 ... length - 1: audio tokens, or speech symbols by their index. [release]"""
    return _cached_rotary(_angles, device, length, head_dim)


def rotary_at_times(times: Float[Tensor, "b s"], head_dim: int) -> Rotary:
    """Returns `b s r` of speech symbols at times in audio tokens, with the frequencies of `rotary_1d`. [ours]"""
    angles = times.float()[..., None] * _frequencies(head_dim).float().to(times.device)
    return Rotary(angles.cos(), angles.sin())


def rotary_3d(frames: int, height: int, width: int, head_dim: int, device: torch.device) -> Rotary:
    """Returns `(f h w) r` of the video tokens by latent frame, row and column; frame 0 is the reference image.
    [Wan, release]"""
    return _cached_rotary(_angles_3d, device, frames, height, width, head_dim)


def interaction_video_rotary(
    height: int, width: int, head_dim: int, device: torch.device, times: tuple[float, ...] = (0.0,)
) -> Rotary:
    """Returns `f n r` of the video tokens in interaction: rows and columns as in `rotary_3d`, time in audio tokens.

    times: one position for each latent frame. The default is a single frame at time 0, which leaves the time pairs
        unrotated; it broadcasts over all frames. [release]
    """
    return _cached_rotary(_interaction_video_angles, device, height, width, head_dim, times)


def interaction_audio_rotary(times: tuple[float, ...], head_dim: int, device: torch.device) -> Rotary:
    """Returns `s r` of the audio tokens in interaction: only the time pairs are rotated, with the frequencies of
    `rotary_1d`. [release]"""
    return _cached_rotary(_interaction_audio_angles, device, times, head_dim)


@cached_table(maxsize=64)
def _cached_rotary(angles_of: Callable[..., Tensor], device: torch.device, *sizes: int | tuple[float, ...]) -> Rotary:
    # Training may read what sampling cached, and autograd refuses tensors that were created in inference mode.
    with torch.inference_mode(False), torch.no_grad():
        angles = angles_of(*sizes)
        return Rotary(angles.cos().float().to(device), angles.sin().float().to(device))


def _frequencies(channels: int) -> Float[Tensor, " r"]:
    """Returns w_i = THETA^(-2i / channels), float64."""
    return 1.0 / THETA ** (torch.arange(0, channels, 2, dtype=torch.float64) / channels)


def _angles(positions: int | tuple[float, ...], channels: int, pairs: int | None = None) -> Float[Tensor, "s r"]:
    """Returns p w_i of the positions, or of 0 ... positions - 1, for the first `pairs` frequencies of `channels`."""
    indices = torch.arange(positions) if isinstance(positions, int) else torch.tensor(positions)
    return torch.outer(indices.double(), _frequencies(channels)[:pairs])


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
            # Time in audio tokens needs the audio branch's frequencies: those of the whole head, not of the time pairs.
            repeat(_angles(times, head_dim, t), "f r -> f (h w) r", h=h, w=w),
            repeat(_angles(h, 2 * rows), "h r -> f (h w) r", f=f, w=w),
            repeat(_angles(w, 2 * columns), "w r -> f (h w) r", f=f, h=h),
        ],
        dim=-1,
    )


def _interaction_audio_angles(times: tuple[float, ...], head_dim: int) -> Float[Tensor, "s r"]:
    t, rows, columns = axis_pairs(head_dim)
    time_angles = _angles(times, head_dim, t)
    return torch.cat([time_angles, time_angles.new_zeros(len(times), rows + columns)], dim=-1)
