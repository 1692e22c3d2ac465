"""Encodes captions with the encoder of umT5, as Wan does; nano has two layers of it.

umT5 is T5 v1.1 (gated GELU, RMS norm, no biases), but with a relative position bias in every layer
(arXiv 2304.09151). Weights, names and numbers are those of transformers' `UMT5EncoderModel`, bit by bit. It stands
here because importing that class takes longer than everything else that a clip needs before its first step. [ours]

Letters: b batch, m tokens, d width, h heads.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from uniavgen.artifacts import read_json
from uniavgen.errors import CheckpointError


class EncodedTokens(NamedTuple):
    """Holds the output of the encoder, under transformers' name."""

    last_hidden_state: Float[Tensor, "b m d"]


class UMT5Encoder(ModelMixin, ConfigMixin):
    """Encodes token ids; the names of its settings and weights are transformers'. A new one has no values yet."""

    saved_as = ("transformers", "UMT5EncoderModel")
    """Library and class that a saved pipeline names, whoever loads it."""

    @register_to_config
    def __init__(  # noqa: PLR0913 - the names of a saved config
        self,
        vocab_size: int,
        d_model: int,
        d_kv: int,
        d_ff: int,
        num_layers: int,
        num_heads: int,
        relative_attention_num_buckets: int = 32,
        relative_attention_max_distance: int = 128,
        layer_norm_epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        self.shared = _embedding(vocab_size, d_model)
        blocks = (
            _Block(d_model, d_kv, d_ff, num_heads, relative_attention_num_buckets, layer_norm_epsilon)
            for _ in range(num_layers)
        )
        self.encoder = _Stack(self.shared, blocks, layer_norm_epsilon)
        self.encoder.num_buckets = relative_attention_num_buckets
        self.encoder.max_distance = relative_attention_max_distance

    @classmethod
    def of_settings(cls, settings: dict[str, Any]) -> "UMT5Encoder":
        """Returns an encoder with the settings in transformers' `config.json`; raises ValueError for a missing one."""
        if settings.get("feed_forward_proj", "gated-gelu") != "gated-gelu":
            raise ValueError(f"a umT5 has gated GELU units, this one {settings['feed_forward_proj']}")
        missing = [name for name in _SETTINGS[:6] if name not in settings]
        if missing:
            raise ValueError(f"the caption encoder's config.json lacks {', '.join(missing)}")
        return cls(**{name: settings[name] for name in _SETTINGS if name in settings})

    @classmethod
    def from_transformers(cls, folder: Path, dtype: torch.dtype | None = None) -> "UMT5Encoder":
        """Loads an encoder that transformers saved; `dtype` None is that of its config.

        Raises CheckpointError, OSError, ValueError, RuntimeError and SafetensorError for what is missing or does not
        fit.
        """
        settings = read_json(folder / "config.json", CheckpointError)
        dtype = dtype or saved_dtype(settings)
        with torch.device("meta"):
            model = cls.of_settings(settings)
        weights = {}
        for file in _weight_files(folder):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    weights[name] = tensors.get_tensor(name).to(_dtype_of(name, dtype))
        weights[_ALIAS] = weights.get("shared.weight")
        model.load_state_dict({name: value for name, value in weights.items() if value is not None}, assign=True)
        model.encoder.embed_tokens = model.shared
        return model.requires_grad_(True).eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = None, **_: Any) -> "UMT5Encoder":
        """Loads an encoder by the name and arguments that diffusers calls on every component (`from_transformers`)."""
        return cls.from_transformers(Path(folder), dtype)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Writes the files that transformers would write for its own class."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.state_dict().items() if name != _ALIAS}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        settings = {name: self.config[name] for name in _SETTINGS} | {
            "architectures": ["UMT5EncoderModel"],
            "model_type": "umt5",
            "feed_forward_proj": "gated-gelu",
            "dtype": str(self.shared.weight.dtype).removeprefix("torch."),
            "is_encoder_decoder": False,
            "num_decoder_layers": 0,
        }
        text = json.dumps(settings, indent=2, sort_keys=True)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    def forward(self, input_ids: Int[Tensor, "b m"], attention_mask: Int[Tensor, "b m"]) -> EncodedTokens:
        """Returns a feature for each token; no token attends to those whose mask is 0."""
        return EncodedTokens(self.encoder(input_ids, attention_mask))


_ALIAS = "encoder.embed_tokens.weight"
"""A second name of `shared.weight`, which files may lack."""
_SETTINGS = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
)


def saved_dtype(settings: dict[str, Any]) -> torch.dtype:
    """Returns the precision that a `config.json` names; float32 where it names none."""
    named = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    return {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(named, torch.float32)


class _RMSNorm(nn.Module):
    """Computes w x / sqrt(mean(x^2) + eps), with the mean in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: Float[Tensor, "b m d"]) -> Float[Tensor, "b m d"]:
        variance = hidden.float().pow(2).mean(-1, keepdim=True)
        hidden = hidden * torch.rsqrt(variance + self.eps)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            hidden = hidden.to(self.weight.dtype)
        return self.weight * hidden


class _Attention(nn.Module):
    """Computes W_o softmax(q k + bias) v, where the bias depends on the distance between query and key."""

    def __init__(self, width: int, head_dim: int, num_heads: int, num_buckets: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, num_heads * head_dim, bias=False)
        self.k = nn.Linear(width, num_heads * head_dim, bias=False)
        self.v = nn.Linear(width, num_heads * head_dim, bias=False)
        self.o = nn.Linear(num_heads * head_dim, width, bias=False)
        self.relative_attention_bias = _embedding(num_buckets, num_heads)
        self.num_heads = num_heads

    def forward(self, hidden: Tensor, mask: Tensor, buckets: Tensor) -> Tensor:
        q, k, v = (
            rearrange(project(hidden), "b m (h c) -> b h m c", h=self.num_heads) for project in (self.q, self.k, self.v)
        )
        bias = rearrange(self.relative_attention_bias(buckets), "q k h -> 1 h q k")
        bias = torch.where(mask, bias, torch.finfo(k.dtype).min).contiguous()
        # T5 does not divide by sqrt(head_dim); its initialisation does instead.
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(rearrange(attended, "b h m c -> b m (h c)"))


class _GatedFeedForward(nn.Module):
    """Computes W_o (GELU(W_0 x) * W_1 x). [T5 v1.1]"""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(width, hidden, bias=False)
        self.wi_1 = nn.Linear(width, hidden, bias=False)
        self.wo = nn.Linear(hidden, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        gate = self.wi_0(hidden)
        # Written out as in transformers: torch's own tanh-GELU rounds otherwise in half precision.
        gate = 0.5 * gate * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (gate + 0.044715 * torch.pow(gate, 3.0))))
        return self.wo((gate * self.wi_1(hidden)).to(self.wo.weight.dtype))


class _SelfAttentionLayer(nn.Module):
    """Computes x + Attention(RMSNorm(x))."""

    def __init__(self, width: int, head_dim: int, num_heads: int, num_buckets: int, eps: float) -> None:
        super().__init__()
        self.SelfAttention = _Attention(width, head_dim, num_heads, num_buckets)
        self.layer_norm = _RMSNorm(width, eps)

    def forward(self, hidden: Tensor, mask: Tensor, buckets: Tensor) -> Tensor:
        return hidden + self.SelfAttention(self.layer_norm(hidden), mask, buckets)


class _FeedForwardLayer(nn.Module):
    """Computes x + FeedForward(RMSNorm(x))."""

    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.DenseReluDense = _GatedFeedForward(width, hidden)
        self.layer_norm = _RMSNorm(width, eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.DenseReluDense(self.layer_norm(hidden))


class _Block(nn.Module):
    """Applies self-attention, then the feed-forward network."""

    def __init__(self, width: int, head_dim: int, hidden: int, num_heads: int, num_buckets: int, eps: float) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            [_SelfAttentionLayer(width, head_dim, num_heads, num_buckets, eps), _FeedForwardLayer(width, hidden, eps)]
        )

    def forward(self, hidden: Tensor, mask: Tensor, buckets: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return _finite(feed_forward(_finite(attention(hidden, mask, buckets))))


class _Stack(nn.Module):
    """Applies embedding, blocks and final norm. Offloading streams the modules of `block`, by this name."""

    def __init__(self, embed_tokens: nn.Embedding, blocks: Iterable[_Block], eps: float) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens
        self.block = nn.ModuleList(blocks)
        self.final_layer_norm = _RMSNorm(embed_tokens.embedding_dim, eps)
        self.num_buckets = 32
        self.max_distance = 128

    def forward(self, ids: Int[Tensor, "b m"], attention_mask: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
        hidden = self.embed_tokens(ids)
        mask = rearrange(attention_mask, "b m -> b 1 1 m") != 0
        buckets = self._distance_buckets(ids.shape[1], hidden.device)
        for block in self.block:
            hidden = block(hidden, mask, buckets)
        return self.final_layer_norm(hidden)

    def _distance_buckets(self, tokens: int, device: torch.device) -> Int[Tensor, "m m"]:
        """Returns the bucket of the distance from each query (row) to each key (column).

        Half of the buckets are for keys behind the query. Of each half, half hold one distance each, the others grow
        logarithmically up to the largest distance, and the last one holds all beyond. [T5]
        """
        half = self.num_buckets // 2
        exact = half // 2
        positions = torch.arange(tokens, device=device)
        distance = positions[None, :] - positions[:, None]
        behind, distance = (distance > 0).long() * half, distance.abs()
        ratio = torch.log(distance.float() / exact) / math.log(self.max_distance / exact)
        # The logarithm of distance 0 is -inf; `where` does not take it.
        far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
        return behind + torch.where(distance < exact, distance, far)


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Returns an uninitialised embedding, since `nn.Embedding` imports TorchDynamo to draw values, even on meta."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


def _finite(hidden: Tensor) -> Tensor:
    """Clamps float16 to finite values, as transformers does; returns other precisions as they are."""
    if hidden.dtype != torch.float16:
        return hidden
    largest = torch.finfo(torch.float16).max
    limit = torch.where(hidden.isinf().any(), largest - 1000, largest)
    return hidden.clamp(min=-limit, max=limit)


def _dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """Returns the precision of a weight in an encoder of `dtype`."""
    # The last projection overflows in float16, so transformers keeps it in float32.
    return torch.float32 if dtype is torch.float16 and name.endswith(".wo.weight") else dtype


def _weight_files(folder: Path) -> list[Path]:
    """Returns the file of weights, or the shards that an index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(read_json(index, CheckpointError)["weight_map"].values()))]
