"""One fused layer: a Wan block of each branch and, in some layers, their interaction.

Both branches are Wan's block with Wan's parameter names: self-attention, text cross-attention, feed-forward. Modulation
is computed once for every distinct flow time and spread over latent frames or audio tokens, never over video tokens.

Letters: b batch, s latent frames or audio tokens, n tokens of one of them, k distinct times, d width, m text tokens.
"""

from dataclasses import dataclass, replace
from enum import Enum

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from uniavgen.models.config import AudioConfig, TransformerConfig, VideoConfig
from uniavgen.models.interaction.config import Position
from uniavgen.models.interaction.layer import Interaction, InteractionContext
from uniavgen.models.modulation import spread
from uniavgen.models.rotary import Rotary, rotate


@dataclass(frozen=True)
class KeyValue:
    """What attention reads of a sequence: keys, normalised and turned to their positions, and values."""

    key: Float[Tensor, "b m heads head_dim"]
    value: Float[Tensor, "b m heads head_dim"]

    @classmethod
    def of(cls, attn: WanAttention, source: Float[Tensor, "b m d"], rotary: Rotary | None) -> "KeyValue":
        """By the projections of one attention."""
        key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(source).unflatten(2, (attn.heads, -1))
        return cls(key if rotary is None else rotate(key, rotary), value)


class RotaryAttnProcessor:
    """Wan's attention through diffusers' choice of attention backend. What is not the sequence itself is read as
    `KeyValue`, so that it need not be projected in every pass."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: KeyValue | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Rotary | None = None,
    ) -> Tensor:
        read = encoder_hidden_states
        if read is None:
            read = KeyValue.of(attn, hidden_states, rotary_emb)
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        hidden_states = dispatch_attention_fn(
            query if rotary_emb is None else rotate(query, rotary_emb),
            read.key,
            read.value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config if encoder_hidden_states is None else None,
        )
        hidden_states = attn.to_out[0](hidden_states.flatten(2, 3).type_as(query))
        return attn.to_out[1](hidden_states)


@dataclass(frozen=True, kw_only=True)
class Text:
    """The caption or the speech as the blocks of its branch read it."""

    hidden: Float[Tensor, "b m d"]
    rotary: Rotary | None
    """Positions of the symbols; None where neither they nor those who ask are turned: the caption. [release]"""
    mask: Bool[Tensor, "b 1 1 m"] | None
    """None where all texts of the batch fill their length."""
    pace: Float[Tensor, "b m"] | None = None
    """Of the speech, as foretold (`SpeechTextEncoder.pace`)."""
    kept: tuple[KeyValue, ...] | None = None
    """What each block reads, where that is kept over many passes; else a block makes it anew."""


@dataclass(frozen=True, kw_only=True)
class BranchContext:
    """What the blocks of one branch are given in a forward pass; all but `read` is shared by them."""

    modulation: Float[Tensor, "b k six d"]
    """Shift, scale and gate of both sub-layers for every distinct time, float32."""
    time_rows: Int[Tensor, "b s"] | None
    """Which time a latent frame or audio token has (`modulation.time_rows`)."""
    rotary: Rotary
    text: Text
    read: KeyValue | None = None
    """Of the text, by this block, where it is kept."""

    def of_block(self, layer: int) -> "BranchContext":
        """The same for one block."""
        return self if self.text.kept is None else replace(self, read=self.text.kept[layer])


class Step(Enum):
    """The three parts of a Wan block, in order."""

    SELF_ATTENTION = "self_attention"
    TEXT_ATTENTION = "text_attention"
    FEED_FORWARD = "feed_forward"


_STEP_BEFORE: dict[Position, Step] = {
    "before_self_attention": Step.FEED_FORWARD,  # that of the next block [release]
    "before_cross_attention": Step.SELF_ATTENTION,
    "before_ffn": Step.TEXT_ATTENTION,
}


class BranchBlock(WanTransformerBlock):
    """Wan's block, in three steps so that an interaction can come between them. State dict as in diffusers."""

    def __init__(self, config: VideoConfig | AudioConfig) -> None:
        super().__init__(config.width, config.ffn_width, config.num_heads, cross_attn_norm=True, eps=config.norm_eps)
        for attention in (self.attn1, self.attn2):
            attention.set_processor(RotaryAttnProcessor())  # pyright: ignore[reportArgumentType] (a closed list)

    def forward(self, hidden_states: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """The three steps in a row."""
        for step in Step:
            hidden_states = self.step(step, hidden_states, context)
        return hidden_states

    def step(self, step: Step, hidden_states: Tensor, context: BranchContext) -> Tensor:
        """One of them."""
        match step:
            case Step.SELF_ATTENTION:
                return self.attend(hidden_states, context)
            case Step.TEXT_ATTENTION:
                return self.read_text(hidden_states, context)
            case Step.FEED_FORWARD:
                return self.transform(hidden_states, context)

    def attend(self, hidden_states: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Self-attention over the whole sequence, reference included."""
        shift, scale, gate = self._modulation(context, 0)
        attended = self.attn1(_modulated(self.norm1, hidden_states, shift, scale), rotary_emb=context.rotary)
        return _gated(hidden_states, attended, gate)

    def read_text(self, hidden_states: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Cross-attention to the caption or the speech."""
        text = context.text
        read = self.project(text) if context.read is None else context.read
        rotary = None if text.rotary is None else context.rotary
        return hidden_states + self.attn2(self._asking(hidden_states), read, text.mask, rotary)

    def project(self, text: Text) -> KeyValue:
        """What `read_text` reads. It does not depend on the flow time."""
        return KeyValue.of(self.attn2, text.hidden, text.rotary)

    def transform(self, hidden_states: Float[Tensor, "b s_n d"], context: BranchContext) -> Float[Tensor, "b s_n d"]:
        """Feed-forward."""
        shift, scale, gate = self._modulation(context, 3)
        return _gated(hidden_states, self.ffn(_modulated(self.norm3, hidden_states, shift, scale)), gate)

    def _asking(self, hidden_states: Float[Tensor, "b s_n d"]) -> Float[Tensor, "b s_n d"]:
        """What text attention asks with."""
        return self.norm2(hidden_states.float()).type_as(hidden_states)

    def _modulation(self, context: BranchContext, first: int) -> list[Float[Tensor, "b s 1 d"]]:
        parts = self.scale_shift_table.float()[:, None] + context.modulation
        return [spread(parts[:, :, part], context.time_rows)[:, :, None] for part in range(first, first + 3)]


class UniAVGenBlock(nn.Module):
    """Video block, audio block and their interaction (None in layers without)."""

    def __init__(self, settings: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.last_step_before = _STEP_BEFORE[settings.interaction.position]
        self.video = BranchBlock(settings.video)
        self.audio = BranchBlock(settings.audio)
        interacts = layer in settings.interaction.layer_list(settings.num_layers)
        self.interaction = Interaction(settings) if interacts else None

    def forward(
        self,
        hidden_states: Float[Tensor, "b s_video dv"] | None,
        encoder_hidden_states: Float[Tensor, "b s_audio da"] | None,
        video: BranchContext | None,
        audio: BranchContext | None,
        interaction: InteractionContext,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Video (`hidden_states`) and audio (`encoder_hidden_states`); the names are those of diffusers' cache hooks.

        A branch that is None is not run. Face masks go to `interaction.record`.
        """
        video_hidden, audio_hidden = hidden_states, encoder_hidden_states
        for step in Step:
            if video_hidden is not None and video is not None:
                video_hidden = self.video.step(step, video_hidden, video)
            if audio_hidden is not None and audio is not None:
                audio_hidden = self.audio.step(step, audio_hidden, audio)
            if self.interaction is not None and step is self.last_step_before and not interaction.idle:
                video_hidden, audio_hidden = self.interaction(video_hidden, audio_hidden, interaction)
        return video_hidden, audio_hidden


def _modulated(norm: nn.Module, hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normalised = _per_step(norm(hidden.float()), shift)
    return (normalised * (1 + scale) + shift).flatten(1, 2).type_as(hidden)


def _gated(hidden: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    gated = (_per_step(update.float(), gate) * gate).flatten(1, 2)
    return (hidden.float() + gated).type_as(hidden)


def _per_step(x: Float[Tensor, "b s_n d"], modulation: Float[Tensor, "b s1 1 d"]) -> Float[Tensor, "b s1 n d"]:
    return rearrange(x, "b (s n) d -> b s n d", s=modulation.shape[1])


try:
    from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
except ImportError:  # A private module of diffusers: without it only its block caches are missing.
    pass
else:
    TransformerBlockRegistry.register(
        UniAVGenBlock,
        TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
    )
