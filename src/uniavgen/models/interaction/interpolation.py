"""Video-to-audio interaction: which latent frames each audio token sees. [paper 3.3, eq. (4), (5); supplement 6.2]

An audio token reads C = (1 - a) V_i + a V_{i+1}, a blend of two latent frames. The blend is never built: with
projected keys k_i of the frames, the logits are bilinear, (1 - a) q.k_i + a q.k_{i+1}, and the mean square that RMS
normalisation divides by is quadratic, (1 - a)^2 |k_i|^2 + 2 a (1 - a) k_i.k_{i+1} + a^2 |k_{i+1}|^2: three numbers a
position. Values blend after attention. Audio tokens are grouped by i, so that the frames are used as they lie.

Letters: b batch, f latent frames, n video tokens a frame, l audio tokens, c slots a frame, heads, d head width.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.interaction.config import FrameAligner, GlobalAligner, InterpolationAligner, VideoToAudioAligner
from uniavgen.models.interaction.windows import ClipGrid
from uniavgen.models.rotary import Rotary, apply_rotary, interaction_audio_rotary, interaction_video_rotary
from uniavgen.timebase import Timebase, interpolation_weights


@dataclass(frozen=True, kw_only=True)
class TokenGroups:
    """Audio tokens grouped by the latent frame they read first."""

    token_index: Int[Tensor, "f c"]
    """Frames with fewer tokens repeat one."""
    group_index: Int[Tensor, " l"]
    next_weight: Float[Tensor, "f c"] | None
    """a, the share of the next latent frame; None where nothing is blended."""


@dataclass(frozen=True, kw_only=True)
class InterpolationPlan:
    """The plan of one clip size."""

    groups: TokenGroups | None
    """None where everybody sees everything."""
    tail_weight_2: bool
    """The frame after the last one is twice the last [release]; else it is never read."""
    query_rotary: Rotary | None
    """None where the query stays at position 0."""
    key_rotary: Rotary


@lru_cache(maxsize=16)
def plan_interpolation(
    aligner: VideoToAudioAligner, grid: ClipGrid, head_dim: int, base: Timebase, device: torch.device
) -> InterpolationPlan:
    """Plans groups, shares and rotary angles. Keys know rows and columns only [release]; global ones time as well.
    [ours]"""
    picture = interaction_video_rotary(grid.height, grid.width, head_dim, device)
    match aligner:
        case GlobalAligner():
            query = interaction_audio_rotary(tuple(float(i) for i in range(grid.tokens)), head_dim, device)
            key = interaction_video_rotary(grid.height, grid.width, head_dim, device, grid.frame_centres(base))
            return InterpolationPlan(groups=None, tail_weight_2=False, query_rotary=query, key_rotary=key)
        case FrameAligner():
            frames = [math.floor(token / grid.rate(base)) for token in range(grid.tokens)]
            slots = _group_tokens([(base.latent_frames(frame + 1) - 1, 0.0) for frame in frames], grid.frames, device)
            slots = TokenGroups(token_index=slots.token_index, group_index=slots.group_index, next_weight=None)
            return InterpolationPlan(groups=slots, tail_weight_2=False, query_rotary=None, key_rotary=picture)
        case InterpolationAligner(ramp=ramp, source=source):
            weights = interpolation_weights(grid.tokens, grid.frames, base.temporal_stride, ramp, source)
            # A weight of 2 is a share of 1 in the doubled frame after the last one.
            places = [(i, 1.0 if w + following > 1.5 else following) for i, w, following in weights]
            slots = _group_tokens(places, grid.frames, device)
            return InterpolationPlan(
                groups=slots, tail_weight_2=aligner.tail_weight_2, query_rotary=None, key_rotary=picture
            )
        case _:
            assert_never(aligner)


def attend_global(
    query: Float[Tensor, "b l heads d"],
    key: Float[Tensor, "b f n width"],
    value: Float[Tensor, "b f n width"],
    norm: nn.RMSNorm,
    plan: InterpolationPlan,
) -> Float[Tensor, "b l heads d"]:
    """Attends from every audio token over all latent frames; key is projected, not yet normalised or turned."""
    heads = query.shape[2]
    key = apply_rotary(norm(key).unflatten(-1, (heads, -1)), plan.key_rotary)
    key = rearrange(key, "b f n heads d -> b heads (f n) d")
    value = rearrange(value, "b f n (heads d) -> b heads (f n) d", heads=heads)
    query = rearrange(
        query if plan.query_rotary is None else apply_rotary(query, plan.query_rotary), "b l heads d -> b heads l d"
    )
    return rearrange(F.scaled_dot_product_attention(query, key, value), "b heads l d -> b l heads d")


def attend_interpolated(
    query: Float[Tensor, "b l heads d"],
    key: Float[Tensor, "b f n width"],
    value: Float[Tensor, "b f n width"],
    norm_weight: Float[Tensor, " width"],
    eps: float,
    groups: TokenGroups,
    key_rotary: Rotary,
) -> Float[Tensor, "b l heads d"]:
    """Attends from every audio token over its blend; key is projected, not yet normalised or turned.

    Where slots have shares, key and value have one frame more than there are groups: what follows the last.
    """
    heads, width = query.shape[2], key.shape[-1]
    query = query.index_select(1, groups.token_index.flatten()).unflatten(1, groups.token_index.shape)
    query = rearrange(query * query.shape[-1] ** -0.5, "b f c heads d -> b f heads c d")
    power = key.float().square().sum(-1) / width
    turned = apply_rotary((key * norm_weight).unflatten(-1, (heads, -1)), key_rotary)
    turned = rearrange(turned, "b f n heads d -> b f heads d n")
    value = rearrange(value, "b f n (heads d) -> b f heads n d", heads=heads)
    if groups.next_weight is None:
        weights = _softmax_rms(query @ turned, power[:, :, None, None], eps)
        out = weights @ value
    else:
        share = groups.next_weight.to(query.dtype)[None, :, None, :, None]
        cross = (key[:, :-1].float() * key[:, 1:].float()).sum(-1) / width
        a = groups.next_weight[None, :, :, None]
        blended = (1 - a) ** 2 * power[:, :-1, None] + 2 * a * (1 - a) * cross[:, :, None] + a**2 * power[:, 1:, None]
        logits = ((1 - share) * query) @ turned[:, :-1] + (share * query) @ turned[:, 1:]
        weights = _softmax_rms(logits, blended[:, :, None], eps)
        out = (1 - share) * (weights @ value[:, :-1]) + share * (weights @ value[:, 1:])
    return rearrange(out, "b f heads c d -> b (f c) heads d").index_select(1, groups.group_index)


def pad_last_frame(
    frames: Float[Tensor, "b f n width"], bias: Float[Tensor, " width"], tail_weight_2: bool
) -> Float[Tensor, "b f_next n width"]:
    """Returns projected frames and the one after the last: itself, or the projection of its double, W(2V) + b.
    [release]"""
    last = frames[:, -1:]
    return torch.cat([frames, 2 * last - bias if tail_weight_2 else last], dim=1)


def _softmax_rms(
    logits: Float[Tensor, "b f heads c n"], mean_square: Float[Tensor, "b f ... n"], eps: float
) -> Float[Tensor, "b f heads c n"]:
    return torch.softmax(logits.float() * torch.rsqrt(mean_square + eps), dim=-1).to(logits.dtype)


def _group_tokens(places: list[tuple[int, float]], num_frames: int, device: torch.device) -> TokenGroups:
    groups: list[list[int]] = [[] for _ in range(num_frames)]
    for token, (frame, _) in enumerate(places):
        groups[frame].append(token)
    length = max(len(group) for group in groups)
    filled = [group + [group[-1] if group else 0] * (length - len(group)) for group in groups]
    slot_of_token = [0] * len(places)
    for frame, group in enumerate(groups):
        for slot, token in enumerate(group):
            slot_of_token[token] = frame * length + slot
    with torch.inference_mode(False):
        return TokenGroups(
            token_index=torch.tensor(filled, device=device),
            group_index=torch.tensor(slot_of_token, device=device),
            next_weight=torch.tensor([[places[token][1] for token in group] for group in filled], device=device),
        )
