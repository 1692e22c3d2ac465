"""Computes the attention of a Wan block, with keys and values that may be projected once and used in many passes.

Letters: b batch, s queries, m keys, d width.
"""

from typing import NamedTuple

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from jaxtyping import Float
from torch import Tensor

from uniavgen.models.rotary import Rotary, apply_rotary


class ProjectedKV(NamedTuple):
    """Holds the keys and values of one attention.

    Text attention: `b m heads head_dim`, keys RMS-normalised and rotated. Interaction: `b l width` (a2v) or
    `b f n width` (v2a), neither normalised nor rotated yet, since windows and interpolation come first.
    """

    key: Float[Tensor, "b ..."]
    value: Float[Tensor, "b ..."]


def project_kv(attn: WanAttention, source: Float[Tensor, "b m d"], rotary: Rotary | None) -> ProjectedKV:
    """Returns the keys rotate(RMSNorm(W_k x)) and the values W_v x of a sequence."""
    key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
    value = attn.to_v(source).unflatten(2, (attn.heads, -1))
    return ProjectedKV(key if rotary is None else apply_rotary(key, rotary), value)


class RotaryAttnProcessor:
    """Computes Wan's attention through diffusers' choice of attention backend.

    Cross-attention takes `ProjectedKV` instead of hidden states, so that a text need not be projected in every pass.
    """

    # diffusers' names: its attention backends and context parallelism look for them on a processor.
    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Float[Tensor, "b s d"],
        encoder_hidden_states: ProjectedKV | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Rotary | None = None,
    ) -> Float[Tensor, "b s d"]:
        """Returns W_o softmax(q k / sqrt(head_dim)) v; without `encoder_hidden_states` it is self-attention."""
        is_self_attention = encoder_hidden_states is None
        kv = project_kv(attn, hidden_states, rotary_emb) if is_self_attention else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        hidden_states = dispatch_attention_fn(
            query if rotary_emb is None else apply_rotary(query, rotary_emb),
            kv.key,
            kv.value,
            attn_mask=attention_mask,
            backend=self._attention_backend,
            # Only self-attention is shared by several processes: every process holds the whole text.
            parallel_config=self._parallel_config if is_self_attention else None,
        )
        hidden_states = attn.to_out[0](hidden_states.flatten(2, 3).type_as(query))
        return attn.to_out[1](hidden_states)
