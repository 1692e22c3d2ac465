"""Runs one layer: a Wan block of each branch and, in some layers, their interaction. [paper 3.2, 3.3]

Each branch has Wan's block with Wan's parameter names:

    x <- x + gate_1 * SelfAttention((1 + scale_1) * LN(x) + shift_1)
    x <- x + TextAttention(LN(x), text)
    x <- x + gate_2 * FeedForward((1 + scale_2) * LN(x) + shift_2)

Shift, scale and gate follow the flow time. They are computed once for every distinct time and expanded over latent
frames or audio tokens, never over video tokens.

Letters: b batch, s latent frames or audio tokens, n tokens of one of them, k distinct times, d width, m text tokens.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from uniavgen.models.attention import ProjectedKV, RotaryAttnProcessor, project_kv
from uniavgen.models.config import AudioConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.config import Position
from uniavgen.models.interaction.layer import Interaction, InteractionContext
from uniavgen.models.modulation import expand_modulation
from uniavgen.models.rotary import Rotary


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """Holds the caption or the speech as the blocks of its branch attend to it."""

    features: Float[Tensor, "b m d"]
    rotary: Rotary | None
    """Positions of the symbols; None for the caption, whose attention has no positions at all. [release]"""
    mask: Bool[Tensor, "b 1 1 m"] | None
    """False for padding; None where all texts of the batch fill their length."""
    symbol_durations: Float[Tensor, "b m"] | None = None
    """Predicted audio tokens of each speech symbol (`SpeechTextEncoder.predict_durations`)."""
    cached_kv: tuple[ProjectedKV, ...] | None = None
    """Keys and values for each block where many passes share them; if None, blocks project them in every pass."""


@dataclass(frozen=True, kw_only=True)
class BranchContext:
    """Holds what the blocks of one branch are conditioned on; all but `text_kv` is the same for every block."""

    modulation: Float[Tensor, "b k six d"]
    """Shift, scale and gate of both modulated sub-layers for every distinct time, float32."""
    timestep_index: Int[Tensor, "b s"] | None
    """Row of the time of each latent frame or audio token (`modulation.timestep_index`); None where k = 1."""
    rotary: Rotary
    text: TextFeatures
    text_kv: ProjectedKV | None = None
    """Cached keys and values of this block's text attention."""

    def for_block(self, layer: int) -> "BranchContext":
        """Returns the context of one block, with its cached keys and values if there are any."""
        return self if self.text.cached_kv is None else replace(self, text_kv=self.text.cached_kv[layer])


class SubLayer(Enum):
    """Names the three parts of a Wan block, in order."""

    SELF_ATTENTION = "self_attention"
    TEXT_ATTENTION = "text_attention"
    FEED_FORWARD = "feed_forward"


_SUBLAYER_BEFORE_INTERACTION: dict[Position, SubLayer] = {
    "before_self_attention": SubLayer.FEED_FORWARD,  # that of the next block [release]
    "before_cross_attention": SubLayer.SELF_ATTENTION,
    "before_ffn": SubLayer.TEXT_ATTENTION,
}


class BranchBlock(WanTransformerBlock):
    """Runs Wan's block by sub-layers, so that an interaction can come between them. The state dict is diffusers'."""

    def __init__(self, config: VideoConfig | AudioConfig) -> None:
        super().__init__(config.width, config.ffn_width, config.num_heads, cross_attn_norm=True, eps=config.norm_eps)
        for attention in (self.attn1, self.attn2):
            attention.set_processor(RotaryAttnProcessor())  # pyright: ignore[reportArgumentType] (a closed list)

    def forward(self, hidden_states: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Runs the three sub-layers in a row."""
        for sublayer in SubLayer:
            hidden_states = self.run_sublayer(sublayer, hidden_states, context)
        return hidden_states

    def run_sublayer(self, sublayer: SubLayer, hidden_states: Tensor, context: BranchContext) -> Tensor:
        """Runs one sub-layer, residual connection included."""
        match sublayer:
            case SubLayer.SELF_ATTENTION:
                return self.self_attention(hidden_states, context)
            case SubLayer.TEXT_ATTENTION:
                return self.text_attention(hidden_states, context)
            case SubLayer.FEED_FORWARD:
                return self.feed_forward(hidden_states, context)

    def self_attention(self, hidden: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Applies self-attention over the whole sequence, reference included."""
        shift, scale, gate = self._modulation(context, 0)
        attended = self.attn1(_modulate(self.norm1, hidden, shift, scale), rotary_emb=context.rotary)
        return _add_gated(hidden, attended, gate)

    def text_attention(self, hidden: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Applies cross-attention to the caption (video) or the speech (audio), without modulation by time. [Wan]"""
        text = context.text
        kv = self.project_text(text) if context.text_kv is None else context.text_kv
        # Queries are rotated only where the text has positions: not for the caption. [release]
        rotary = None if text.rotary is None else context.rotary
        return hidden + self.attn2(self._text_query(hidden), kv, text.mask, rotary)

    def project_text(self, text: TextFeatures) -> ProjectedKV:
        """Returns the keys and values of `text_attention`, the same in every pass of a clip."""
        return project_kv(self.attn2, text.features, text.rotary)

    def feed_forward(self, hidden: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Applies the feed-forward network to every token."""
        shift, scale, gate = self._modulation(context, 3)
        return _add_gated(hidden, self.ffn(_modulate(self.norm3, hidden, shift, scale)), gate)

    def _text_query(self, hidden: Float[Tensor, "b s_n d"]) -> Float[Tensor, "b s_n d"]:
        """Returns LN(x) in float32, the input of text attention."""
        return self.norm2(hidden.float()).type_as(hidden)

    def _modulation(self, context: BranchContext, first: int) -> list[Float[Tensor, "b s1 1 d"]]:
        """Returns shift, scale and gate of the sub-layer whose three rows of the table begin at `first`."""
        rows = self.scale_shift_table.float()[:, None] + context.modulation
        return [expand_modulation(rows[:, :, i], context.timestep_index)[:, :, None] for i in range(first, first + 3)]


class BlockOutput(NamedTuple):
    """Holds the tokens of both branches after one block, and its auxiliary outputs."""

    # A tuple, since diffusers' hooks and FSDP look for tensors in tuples.

    video: Float[Tensor, "b s_video dv"] | None
    audio: Float[Tensor, "b s_audio da"] | None
    face_mask: Float[Tensor, "b f n"] | None = None
    """Auxiliary: face mask of the block's interaction [paper eq. (8)]; None where none was computed."""
    kv: ProjectedKV | None = None
    """Auxiliary: what the other branch reads of the one that is run; None unless `InteractionContext.cache_kv`."""


class UniAVGenBlock(nn.Module):
    """Runs the video block, the audio block and, in some layers, their interaction."""

    def __init__(self, settings: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.interaction_after = _SUBLAYER_BEFORE_INTERACTION[settings.interaction.position]
        self.video = BranchBlock(settings.video)
        self.audio = BranchBlock(settings.audio)
        interacts = layer in settings.interaction.layer_list(settings.num_layers)
        self.interaction = Interaction(settings) if interacts else None

    def forward(
        self,
        hidden_states: Float[Tensor, "b s_video dv"] | None,
        encoder_hidden_states: Float[Tensor, "b s_audio da"] | None,
        video_context: BranchContext | None,
        audio_context: BranchContext | None,
        interaction_context: InteractionContext,
    ) -> BlockOutput:
        """Runs both blocks and their interaction; a branch that is None is not run and stays None.

        `hidden_states` is video and `encoder_hidden_states` audio: the names that diffusers' cache hooks look for.
        """
        video, audio = hidden_states, encoder_hidden_states
        face_mask, kv = None, None
        for sublayer in SubLayer:
            if video is not None and video_context is not None:
                video = self.video.run_sublayer(sublayer, video, video_context)
            if audio is not None and audio_context is not None:
                audio = self.audio.run_sublayer(sublayer, audio, audio_context)
            # Both branches have passed the same sub-layers here, so the interaction sees them side by side.
            if self.interaction is not None and sublayer is self.interaction_after and not interaction_context.idle:
                video, audio, face_mask, kv = self.interaction(video, audio, interaction_context)
        return BlockOutput(video, audio, face_mask, kv)


def _modulate(norm: nn.Module, hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Returns (1 + scale) * LN(x) + shift in float32, one shift and scale a latent frame or audio token."""
    normalised = _per_latent_frame(norm(hidden.float()), shift)
    return torch.addcmul(shift, normalised, 1 + scale).flatten(1, 2).type_as(hidden)


def _add_gated(hidden: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """Returns x + gate * update in float32."""
    # One kernel that reads both in their own precision: written out, casts and products move more than twice the bytes.
    tokens, update = _per_latent_frame(hidden, gate), _per_latent_frame(update, gate)
    return torch.addcmul(tokens, update, gate).flatten(1, 2).type_as(hidden)


def _per_latent_frame(x: Float[Tensor, "b s_n d"], modulation: Float[Tensor, "b s1 1 d"]) -> Float[Tensor, "b s1 n d"]:
    """Groups tokens so that modulation broadcasts: by latent frame, or as one group where there is a single time."""
    return rearrange(x, "b (s n) d -> b s n d", s=modulation.shape[1])
