"""Attends from each audio token to an interpolated latent frame (v2a). [paper 3.3, eq. (4), (5); supplement 6.2]

    A_j' = Attention(Q = A_j, K V = C_j),   C_j = (1 - a) V_i + a V_{i+1},   i and a by the time of audio token j

C_j is never built, since it is as large as a latent frame for every audio token. With projected keys k_i of the frames

    logits          (1 - a) q.k_i + a q.k_{i+1}
    mean square     (1 - a)^2 |k_i|^2 + 2 a (1 - a) k_i.k_{i+1} + a^2 |k_{i+1}|^2      (over width)

are those of the interpolated keys: the mean square, by whose root RMSNorm divides, takes three numbers a video token.
Values are linear, so they are interpolated after attention. Audio tokens are grouped by i, so that no frame is copied
(docs/decisions/002-closed-form-v2a.md). [ours]

Letters: b batch, f latent frames, n video tokens a frame, l audio tokens, c audio tokens a group, heads, d head width.
"""

import math
from dataclasses import dataclass, replace
from typing import assert_never

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.cached_tables import cached_table
from uniavgen.models.interaction.config import FrameAligner, GlobalAligner, InterpolationAligner, VideoToAudioAligner
from uniavgen.models.interaction.windows import ClipGrid
from uniavgen.models.rotary import Rotary, apply_rotary, interaction_audio_rotary, interaction_video_rotary
from uniavgen.timebase import Timebase, interpolation_weights


@dataclass(frozen=True, kw_only=True)
class TokenGroups:
    """Groups audio tokens by the first of the latent frames that they attend to."""

    token_index: Int[Tensor, "f c"]
    """Audio tokens of each group; a group with fewer repeats its last."""
    group_index: Int[Tensor, " l"]
    """Where each audio token stands among the flattened groups `(f c)`."""
    next_weight: Float[Tensor, "f c"] | None
    """a, the weight of the next latent frame; None where frames are not interpolated."""


@dataclass(frozen=True, kw_only=True)
class InterpolationPlan:
    """Holds what v2a attention needs to know of one clip size."""

    groups: TokenGroups | None
    """None where every audio token attends to all latent frames."""
    tail_weight_2: bool
    """Whether the frame after the last one is twice the last [release]; else no token attends to it."""
    query_rotary: Rotary | None
    """None where queries have position 0 and are not rotated."""
    key_rotary: Rotary


@cached_table(maxsize=16)
def plan_interpolation(
    aligner: VideoToAudioAligner, grid: ClipGrid, head_dim: int, base: Timebase, device: torch.device
) -> InterpolationPlan:
    """Returns the groups, weights and rotary angles of a clip size.

    Queries have position 0, keys their row and column [release]. Where all attend to all, queries have the position of
    their audio token, and keys the centre of their latent frame too [ours].
    """
    spatial = interaction_video_rotary(grid.height, grid.width, head_dim, device)
    match aligner:
        case GlobalAligner():
            query = interaction_audio_rotary(tuple(float(i) for i in range(grid.tokens)), head_dim, device)
            key = interaction_video_rotary(grid.height, grid.width, head_dim, device, grid.frame_centres(base))
            return InterpolationPlan(groups=None, tail_weight_2=False, query_rotary=query, key_rotary=key)
        case FrameAligner():
            frames = [math.floor(token / grid.rate(base)) for token in range(grid.tokens)]
            groups = _group_tokens([(base.latent_frames(frame + 1) - 1, 0.0) for frame in frames], grid.frames, device)
            groups = replace(groups, next_weight=None)
            return InterpolationPlan(groups=groups, tail_weight_2=False, query_rotary=None, key_rotary=spatial)
        case InterpolationAligner(ramp=ramp, source=source):
            weights = interpolation_weights(grid.tokens, grid.frames, base.temporal_stride, ramp, source)
            # A weight of 2 on the last frame is a weight of 1 on the frame after it, which is twice the last.
            frames = [(i, 1.0 if w + w_next > 1.5 else w_next) for i, w, w_next in weights]
            groups = _group_tokens(frames, grid.frames, device)
            return InterpolationPlan(
                groups=groups, tail_weight_2=aligner.tail_weight_2, query_rotary=None, key_rotary=spatial
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
    """Attends from every audio token to all latent frames; key is projected, not yet normalised or rotated."""
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
    """Attends from every audio token to its interpolated latent frame, in the closed form of this module.

    key: projected, not yet normalised or rotated.
    norm_weight, eps: of the RMSNorm of the keys, over all heads together.
    groups: where they have weights, key and value have one frame more than there are groups (`pad_last_frame`).
    """
    heads, width = query.shape[2], key.shape[-1]
    query = query.index_select(1, groups.token_index.flatten()).unflatten(1, groups.token_index.shape)
    query = rearrange(query * query.shape[-1] ** -0.5, "b f c heads d -> b f heads c d")
    mean_square = key.float().square().sum(-1) / width
    # RMSNorm divides a whole key by one number, so that division can wait until the logits are interpolated; the
    # weight of the norm and the rotation act on each key.
    rotated = apply_rotary((key * norm_weight).unflatten(-1, (heads, -1)), key_rotary)
    rotated = rearrange(rotated, "b f n heads d -> b f heads d n")
    value = rearrange(value, "b f n (heads d) -> b f heads n d", heads=heads)
    if groups.next_weight is None:
        weights = _softmax_rms(query @ rotated, mean_square[:, :, None, None], eps)
        out = weights @ value
    else:
        current, following = mean_square[:, :-1, None], mean_square[:, 1:, None]
        cross = ((key[:, :-1].float() * key[:, 1:].float()).sum(-1) / width)[:, :, None]
        a = groups.next_weight[None, :, :, None]
        interpolated = (1 - a) ** 2 * current + 2 * a * (1 - a) * cross + a**2 * following
        a = rearrange(groups.next_weight, "f c -> 1 f 1 c 1").to(query.dtype)
        logits = ((1 - a) * query) @ rotated[:, :-1] + (a * query) @ rotated[:, 1:]
        weights = _softmax_rms(logits, interpolated[:, :, None], eps)
        out = (1 - a) * (weights @ value[:, :-1]) + a * (weights @ value[:, 1:])
    return rearrange(out, "b f heads c d -> b (f c) heads d").index_select(1, groups.group_index)


def pad_last_frame(
    frames: Float[Tensor, "b f n width"], bias: Float[Tensor, " width"], tail_weight_2: bool
) -> Float[Tensor, "b f_next n width"]:
    """Returns the projected frames and one after the last: the last again, or its double W(2V) + b. [release]

    frames: W V + b of each latent frame, so W(2V) + b = 2 (W V + b) - b.
    """
    last = frames[:, -1:]
    return torch.cat([frames, 2 * last - bias if tail_weight_2 else last], dim=1)


def _softmax_rms(
    logits: Float[Tensor, "b f heads c n"], mean_square: Float[Tensor, "b f ... n"], eps: float
) -> Float[Tensor, "b f heads c n"]:
    """Returns softmax(logits / RMS), where RMS = sqrt(mean_square + eps) of each key was left out of the logits."""
    return torch.softmax(logits.float() * torch.rsqrt(mean_square + eps), dim=-1).to(logits.dtype)


def _group_tokens(frames: list[tuple[int, float]], num_frames: int, device: torch.device) -> TokenGroups:
    """Returns the groups of audio tokens; `frames` has (i, a) of each token."""
    groups: list[list[int]] = [[] for _ in range(num_frames)]
    for token, (frame, _) in enumerate(frames):
        groups[frame].append(token)
    length = max(len(group) for group in groups)
    padded = [group + [group[-1] if group else 0] * (length - len(group)) for group in groups]
    group_index = [0] * len(frames)
    for frame, group in enumerate(groups):
        for position, token in enumerate(group):
            group_index[token] = frame * length + position
    with torch.inference_mode(False):
        return TokenGroups(
            token_index=torch.tensor(padded, device=device),
            group_index=torch.tensor(group_index, device=device),
            next_weight=torch.tensor([[frames[token][1] for token in group] for group in padded], device=device),
        )
