"""Embeds the flow time and modulates activations by it (adaLN).

A sample has few distinct times: that of its noisy tokens, and 0 for clean ones. Embedding and modulation are computed
once for each of them, and expanded to latent frames or audio tokens where they are used.

Letters: b batch, k distinct times, s latent frames or audio tokens, d width.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.batch import TokenTimesteps

NUM_TRAIN_TIMESTEPS = 1000.0
"""Flow time 1 is Wan's timestep 1000."""


class TimeEmbedding(nn.Module):
    """Embeds flow times, for the heads and the face mask, and projects them to the modulation of blocks; in float32.

    e = MLP(sinusoid(1000 t));  (shift, scale, gate of self-attention and of the feed-forward network) = W SiLU(e) + b
    """

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.sinusoid = Timesteps(frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(frequencies, width)
        self.time_proj = nn.Linear(width, 6 * width)

    def forward(self, time: Float[Tensor, "b k"]) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k six d"]]:
        """Returns the embedding and the modulation of every distinct time in [0, 1], float32."""
        with without_autocast(time):
            sinusoid = self.sinusoid(time.float().flatten() * NUM_TRAIN_TIMESTEPS).unflatten(0, time.shape)
            embedding = self.time_embedder(sinusoid.to(self.time_proj.weight.dtype))
            modulation = self.time_proj(F.silu(embedding))
            return embedding.float(), modulation.float().unflatten(-1, (6, -1))


def without_autocast(like: Tensor) -> AbstractContextManager:
    """Returns a context in which operations keep their inputs' precision, on the device of `like`.

    Meta tensors, on which operations are only counted, have no autocast to disable.
    """
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def timestep_index(times: TokenTimesteps) -> Int[Tensor, "b s"] | None:
    """Returns for every token the row of its time in the flattened `(b k)` times; None where k = 1."""
    batch, distinct = times.unique.shape
    if distinct == 1:
        return None
    return times.index + distinct * torch.arange(batch, device=times.index.device)[:, None]


def expand_modulation(per_time: Float[Tensor, "b k d"], rows: Int[Tensor, "b s"] | None) -> Float[Tensor, "b s1 d"]:
    """Expands one value a distinct time to one a latent frame or audio token.

    Without `rows` there is one time: the value `b 1 d` is returned as it is, and broadcasts.
    """
    return per_time if rows is None else F.embedding(rows, per_time.flatten(0, 1))


def shift_and_scale(
    table: Float[Tensor, "1 2 d"], embedding: Float[Tensor, "b k d"], rows: Int[Tensor, "b s"] | None
) -> tuple[Float[Tensor, "b s1 d"], Float[Tensor, "b s1 d"]]:
    """Returns (shift, scale) of an output head: two learned vectors, each plus the time embedding. [Wan]"""
    shift, scale = (table.float()[:, None] + embedding[:, :, None]).unbind(2)
    return expand_modulation(shift, rows), expand_modulation(scale, rows)
