"""Updates both branches by two cross-attentions over the same features: one interaction. [paper 3.3, 3.4]

    a2v:  V <- V + W_o (M * Attention(Q = V, K V = audio window))            [eq. (3), (9)]
    v2a:  A <- A + W_o Attention(Q = A, K V = interpolated (M * V))          [eq. (4), (5), (9)]

M is the face mask. Each direction works at the width of its queries. Queries and keys are RMS-normalised over that
width, all heads together; inputs have no norm, updates no gate, and output projections start at zero. [release]

Letters: b batch, f latent frames, n video tokens a frame, l audio tokens, dv da widths.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.attention import ProjectedKV
from uniavgen.models.config import AudioConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.face_mask import FaceMaskHead
from uniavgen.models.interaction.interpolation import (
    InterpolationPlan,
    attend_global,
    attend_interpolated,
    pad_last_frame,
)
from uniavgen.models.interaction.windows import WindowPlan, attend_windows


@dataclass(frozen=True, kw_only=True)
class BranchKVCache:
    """Holds what the other branch attends to of a branch that was run once, since its tokens are all given.

    Keys are block indices.
    """

    branch: Literal["video", "audio"]
    kv: dict[int, ProjectedKV]
    face_masks: dict[int, Float[Tensor, "b f n"]]
    """Face masks of the cached video; empty where audio is cached or the model has no mask."""
    skip_layers: tuple[int, ...]
    """Blocks that the branch was run without."""


@dataclass(frozen=True, kw_only=True)
class A2VContext:
    """Holds which audio tokens a latent frame attends to, and which latent frames are updated: an open a2v gate."""

    plan: WindowPlan
    update_mask: Float[Tensor, "b f"]


@dataclass(frozen=True, kw_only=True)
class V2AContext:
    """Holds which latent frames an audio token attends to, and which audio tokens are updated: an open v2a gate."""

    plan: InterpolationPlan
    update_mask: Float[Tensor, "b l"]


@dataclass(frozen=True, kw_only=True)
class VideoTimeEmbedding:
    """Holds the flow time of the video branch, by which the face mask head is modulated."""

    embedding: Float[Tensor, "b k dv"]
    timestep_index: Int[Tensor, "b f"] | None


@dataclass(frozen=True, kw_only=True)
class InteractionContext:
    """Holds the inputs of an interaction besides the tokens. A direction that is None is closed and not computed.

    All but `cached_kv` and `cached_face_mask` is the same for every interaction of a forward pass.
    """

    # No layer index: torch.compile would specialise on it, and compile every block anew.

    a2v: A2VContext | None
    v2a: V2AContext | None
    tokens_per_frame: int
    reference_frames: int
    reference_tokens: int
    video_time: VideoTimeEmbedding | None
    """None where the video branch is not run."""
    cache_kv: bool
    """Whether the keys and values of the branch that is run are returned (`precompute_branch`)."""
    return_face_masks: bool
    """Whether face masks are computed even where no open direction needs them."""
    num_interacting: int | None
    """Leading samples of the batch that interact, None for all. For the others every gate is closed."""
    cached_kv: ProjectedKV | None = None
    """Keys and values of the branch that is cached instead of run, for this block."""
    cached_face_mask: Float[Tensor, "b f n"] | None = None

    def for_block(self, layer: int, cache: BranchKVCache | None) -> "InteractionContext":
        """Returns the context of one block, with what is cached for it."""
        if cache is None:
            return self
        return replace(self, cached_kv=cache.kv.get(layer), cached_face_mask=cache.face_masks.get(layer))

    @property
    def idle(self) -> bool:
        """Whether nothing is to be computed, so that every interaction of this pass is skipped."""
        return self.a2v is None and self.v2a is None and not self.cache_kv and not self.return_face_masks


class InteractionOutput(NamedTuple):
    """Holds both branches after the interaction, and its auxiliary outputs (`BlockOutput`)."""

    video: Float[Tensor, "b s_video dv"] | None
    audio: Float[Tensor, "b s_audio da"] | None
    face_mask: Float[Tensor, "b f n"] | None
    kv: ProjectedKV | None


class CrossModalAttention(nn.Module):
    """Projects the queries of one branch, and the keys and values of the other, for one direction."""

    def __init__(self, query_config: VideoConfig | AudioConfig, context_width: int) -> None:
        super().__init__()
        self.heads, self.eps = query_config.num_heads, query_config.norm_eps
        self.to_q = nn.Linear(query_config.width, query_config.width)
        self.to_k = nn.Linear(context_width, query_config.width)
        self.to_v = nn.Linear(context_width, query_config.width)
        self.to_out = nn.Linear(query_config.width, query_config.width)
        self.norm_q = nn.RMSNorm(query_config.width, eps=query_config.norm_eps)
        self.norm_k = nn.RMSNorm(query_config.width, eps=query_config.norm_eps)

    def project_query(self, hidden: Float[Tensor, "*b s d"]) -> Float[Tensor, "*b s heads head_dim"]:
        """Returns RMSNorm(W_q x), split into heads."""
        return self.norm_q(self.to_q(hidden)).unflatten(-1, (self.heads, -1))

    def project_kv(self, hidden: Float[Tensor, "*b s d"]) -> ProjectedKV:
        """Returns W_k x and W_v x of the other branch; keys are not normalised yet, since they may be interpolated."""
        return ProjectedKV(self.to_k(hidden), self.to_v(hidden))


class Interaction(nn.Module):
    """Computes audio-to-video and video-to-audio interaction after (or inside) one block."""

    def __init__(self, settings: TransformerConfig) -> None:
        super().__init__()
        self.inner_residual = settings.interaction.inner_residual
        self.a2v = CrossModalAttention(settings.video, settings.audio.width)
        self.v2a = CrossModalAttention(settings.audio, settings.video.width)
        has_mask = settings.interaction.face_modulation != "none"
        self.face_mask = FaceMaskHead(settings.video.width, settings.video.norm_eps) if has_mask else None

    def forward(
        self,
        video: Float[Tensor, "b s_video dv"] | None,
        audio: Float[Tensor, "b s_audio da"] | None,
        context: InteractionContext,
    ) -> InteractionOutput:
        """Computes both updates from the features before either of them. Reference parts neither send nor receive.

        A branch that is not run (None) stays None.
        """
        n = context.num_interacting
        if n is None:
            return self._interact(video, audio, context)
        leading = (None if hidden is None else hidden[:n] for hidden in (video, audio))
        updated = self._interact(*leading, context)
        return updated._replace(
            video=None if video is None or updated.video is None else torch.cat([updated.video, video[n:]]),
            audio=None if audio is None or updated.audio is None else torch.cat([updated.audio, audio[n:]]),
        )

    def _interact(
        self,
        video: Float[Tensor, "b s_video dv"] | None,
        audio: Float[Tensor, "b s_audio da"] | None,
        context: InteractionContext,
    ) -> InteractionOutput:
        """Computes both updates for samples that all interact."""
        frames = None if video is None else _clip_frames(video, context)
        tokens = None if audio is None else audio[:, context.reference_tokens :]
        mask = self._face_mask(frames, context)
        v2a_kv, a2v_kv = self._v2a_kv(frames, mask, context), self._a2v_kv(tokens, context)
        if context.a2v is not None and video is not None and frames is not None and a2v_kv is not None:
            update = self._a2v_update(frames, a2v_kv, mask, context.a2v.plan)
            update = update * context.a2v.update_mask[:, :, None, None].to(update)
            video = _add_to_clip(video, rearrange(update, "b f n d -> b (f n) d"))
        if context.v2a is not None and audio is not None and tokens is not None and v2a_kv is not None:
            update = self._v2a_update(tokens, v2a_kv, context.v2a.plan)
            audio = _add_to_clip(audio, update * context.v2a.update_mask[:, :, None].to(update))
        # Only one branch is run where keys and values are cached: the other one's are None.
        kv = (v2a_kv or a2v_kv) if context.cache_kv else None
        return InteractionOutput(video, audio, mask, kv)

    def _face_mask(self, frames: Tensor | None, context: InteractionContext) -> Float[Tensor, "b f n"] | None:
        """Predicts the face mask, or returns the cached one where video is not run; None for a model without."""
        if self.face_mask is None:
            return None
        if frames is not None and context.video_time is not None:
            return self.face_mask(frames, context.video_time.embedding, context.video_time.timestep_index)
        return context.cached_face_mask

    def _v2a_kv(self, frames: Tensor | None, mask: Tensor | None, context: InteractionContext) -> ProjectedKV | None:
        """Returns the keys and values of M * V, which audio attends to. [eq. (9), release]"""
        if frames is None:
            return context.cached_kv
        if context.v2a is None and not context.cache_kv:
            return None
        return self.v2a.project_kv(frames if mask is None else frames * mask[..., None].to(frames))

    def _a2v_kv(self, tokens: Tensor | None, context: InteractionContext) -> ProjectedKV | None:
        """Returns the keys and values that video attends to; they do not depend on the face mask."""
        if tokens is None:
            return context.cached_kv
        if context.a2v is None and not context.cache_kv:
            return None
        return self.a2v.project_kv(tokens)

    def _a2v_update(
        self,
        frames: Float[Tensor, "b f n dv"],
        kv: ProjectedKV,
        mask: Float[Tensor, "b f n"] | None,
        plan: WindowPlan,
    ) -> Float[Tensor, "b f n dv"]:
        """Returns W_o (M * Attention(V, windows of A)); with `inner_residual` W_o (M * (V + Attention)). [eq. (3)]"""
        key = self.a2v.norm_k(kv.key).unflatten(-1, (self.a2v.heads, -1))
        value = kv.value.unflatten(-1, (self.a2v.heads, -1))
        out = attend_windows(self.a2v.project_query(frames), key, value, plan).flatten(-2)
        out = out + frames if self.inner_residual else out
        # The mask weights what enters the output projection, so its bias is not masked. [release; paper eq. (9)]
        return self.a2v.to_out(out if mask is None else out * mask[..., None].to(out))

    def _v2a_update(
        self, tokens: Float[Tensor, "b l da"], kv: ProjectedKV, plan: InterpolationPlan
    ) -> Float[Tensor, "b l da"]:
        """Returns W_o Attention(A, interpolated M * V); with `inner_residual` W_o (A + Attention). [eq. (4), (5)]"""
        query, norm = self.v2a.project_query(tokens), self.v2a.norm_k
        if plan.groups is None:
            out = attend_global(query, kv.key, kv.value, norm, plan)
        else:
            key, value = kv.key, kv.value
            if plan.groups.next_weight is not None:
                key = pad_last_frame(key, self.v2a.to_k.bias, plan.tail_weight_2)
                value = pad_last_frame(value, self.v2a.to_v.bias, plan.tail_weight_2)
            out = attend_interpolated(query, key, value, norm.weight, self.v2a.eps, plan.groups, plan.key_rotary)
        out = out.flatten(-2)
        return self.v2a.to_out(out + tokens if self.inner_residual else out)


def _clip_frames(video: Float[Tensor, "b s d"], context: InteractionContext) -> Float[Tensor, "b f n d"]:
    """Returns the clip's latent frames, without the reference."""
    frames = rearrange(video, "b (f n) d -> b f n d", n=context.tokens_per_frame)
    return frames[:, context.reference_frames :]


def _add_to_clip(hidden: Float[Tensor, "b s d"], update: Float[Tensor, "b s_clip d"]) -> Float[Tensor, "b s d"]:
    """Adds an update to the clip; the reference, which stands in front of it, stays as it is."""
    reference = hidden.shape[1] - update.shape[1]
    if reference == 0:
        return hidden + update
    return torch.cat([hidden[:, :reference], hidden[:, reference:] + update], dim=1)
