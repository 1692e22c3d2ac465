"""Attends from each latent frame to its window of audio tokens (a2v). [paper 3.3, eq. (3); supplement 6.1]

    V_i' = Attention(Q = V_i, K V = C_i),   C_i = the audio tokens of latent frame i and of its neighbourhood

Keys and values of all windows are gathered, and a window becomes an item of the batch. All windows have one length, so
attention needs no mask (except with `FrameAligner`) and no logits outside the windows.

Letters: b batch, f latent frames, n video tokens a frame, l audio tokens, w tokens a window, heads, d head width.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from uniavgen.models.cached_tables import cached_table
from uniavgen.models.interaction.config import AudioToVideoAligner, FrameAligner, GlobalAligner, WindowAligner
from uniavgen.models.rotary import Rotary, apply_rotary, interaction_audio_rotary, interaction_video_rotary
from uniavgen.timebase import Timebase, audio_windows


@dataclass(frozen=True, kw_only=True)
class ClipGrid:
    """Holds the sizes of a clip without its reference parts."""

    frames: int
    """Latent frames."""
    height: int
    """Rows of video tokens."""
    width: int
    """Columns of video tokens."""
    tokens: int
    """Audio tokens."""

    @property
    def tokens_per_frame(self) -> int:
        return self.height * self.width

    def rate(self, base: Timebase) -> Fraction:
        """Returns the number of audio tokens per pixel frame."""
        return Fraction(self.tokens, base.frames_in(self.frames))

    def frame_spans(self, base: Timebase) -> list[tuple[Fraction, Fraction]]:
        """Returns start and stop of every latent frame, in audio tokens."""
        rate = self.rate(base)
        return [(base.frames_in(i) * rate, base.frames_in(i + 1) * rate) for i in range(self.frames)]

    def frame_centres(self, base: Timebase) -> tuple[float, ...]:
        """Returns the centre of every latent frame as a position among the audio tokens."""
        # Token j covers [j, j + 1): its centre, j + 1/2, has position j.
        return tuple(float((start + stop) / 2) - 0.5 for start, stop in self.frame_spans(base))


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Holds what a2v attention needs to know of one clip size."""

    token_index: Int[Tensor, "f w"] | None
    """Audio tokens of every window; None where every latent frame attends to all audio tokens."""
    mask: Bool[Tensor, "f w"] | None
    """False where a window is shorter than the longest; None where all are of one length."""
    query_rotary: Rotary
    key_rotary: Rotary


@cached_table(maxsize=16)
def plan_windows(
    aligner: AudioToVideoAligner, grid: ClipGrid, head_dim: int, base: Timebase, device: torch.device
) -> WindowPlan:
    """Returns the windows and rotary angles of a clip size.

    Keys have their position inside the window, queries rows and columns only [release]. Without windows, keys have the
    position of their audio token, and queries the centre of their latent frame [ours].
    """
    spatial = interaction_video_rotary(grid.height, grid.width, head_dim, device)
    match aligner:
        case GlobalAligner():
            query = interaction_video_rotary(grid.height, grid.width, head_dim, device, grid.frame_centres(base))
            return WindowPlan(
                token_index=None, mask=None, query_rotary=query, key_rotary=_token_rotary(grid.tokens, head_dim, device)
            )
        case WindowAligner(side_frames=side, source=source):
            windows = audio_windows(grid.frames, grid.tokens, side, base.temporal_stride, source)
            mask = None
        case FrameAligner():
            bounds = [(math.floor(start), math.ceil(stop)) for start, stop in grid.frame_spans(base)]
            length = max(stop - start for start, stop in bounds)
            windows = [[min(start + i, stop - 1) for i in range(length)] for start, stop in bounds]
            mask = [[start + i < stop for i in range(length)] for start, stop in bounds]
        case _:
            assert_never(aligner)
    with torch.inference_mode(False):
        return WindowPlan(
            token_index=torch.tensor(windows, device=device),
            mask=None if mask is None else torch.tensor(mask, device=device),
            query_rotary=spatial,
            key_rotary=_token_rotary(len(windows[0]), head_dim, device),
        )


def attend_windows(
    query: Float[Tensor, "b f n heads d"],
    key: Float[Tensor, "b l heads d"],
    value: Float[Tensor, "b l heads d"],
    plan: WindowPlan,
) -> Float[Tensor, "b f n heads d"]:
    """Attends from every latent frame to its window; query and key are normalised but not yet rotated."""
    b, f = query.shape[:2]
    query = apply_rotary(query, plan.query_rotary)
    if plan.token_index is None:
        query, key = rearrange(query, "b f n heads d -> b heads (f n) d"), apply_rotary(key, plan.key_rotary)
        key, value = (rearrange(x, "b l heads d -> b heads l d") for x in (key, value))
        out = F.scaled_dot_product_attention(query, key, value)
        return rearrange(out, "b heads (f n) d -> b f n heads d", f=f)
    f, w = plan.token_index.shape
    # A token lies in several windows, each time at another position, so keys are rotated after they are gathered.
    key, value = (x.index_select(1, plan.token_index.flatten()).unflatten(1, (f, w)) for x in (key, value))
    key = apply_rotary(key, plan.key_rotary)
    query, key, value = (rearrange(x, "b f s heads d -> (b f) heads s d") for x in (query, key, value))
    mask = None if plan.mask is None else plan.mask.repeat(b, 1)[:, None, None]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return rearrange(out, "(b f) heads n d -> b f n heads d", b=b)


def _token_rotary(length: int, head_dim: int, device: torch.device) -> Rotary:
    return interaction_audio_rotary(tuple(float(i) for i in range(length)), head_dim, device)
