"""Flow time as the branches take it: one embedding for every distinct time, spread over tokens where it is used.

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
    """Flow time to an embedding (heads, face mask) and six-way modulation (blocks), in float32."""

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.sinusoid = Timesteps(frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(frequencies, width)
        self.time_proj = nn.Linear(width, 6 * width)

    def forward(self, time: Float[Tensor, "b k"]) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b k six d"]]:
        """Returns embedding and modulation of every distinct time in [0, 1]."""
        with without_autocast(time):
            sinusoid = self.sinusoid(time.float().flatten() * NUM_TRAIN_TIMESTEPS).unflatten(0, time.shape)
            embedding = self.time_embedder(sinusoid.to(self.time_proj.weight.dtype))
            modulation = self.time_proj(F.silu(embedding))
            return embedding.float(), modulation.float().unflatten(-1, (6, -1))


def without_autocast(like: Tensor) -> AbstractContextManager:
    """Operations keep their inputs' precision. Meta tensors, whose operations are only counted, have no autocast."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def timestep_index(times: TokenTimesteps) -> Int[Tensor, "b s"] | None:
    """Returns for every token the row of its time in the flattened `b k` times; None where there is one time for
    all."""
    batch, distinct = times.unique.shape
    if distinct == 1:
        return None
    return times.index + distinct * torch.arange(batch, device=times.index.device)[:, None]


def expand_modulation(per_time: Float[Tensor, "b k d"], rows: Int[Tensor, "b s"] | None) -> Float[Tensor, "b s1 d"]:
    """Expands one value per distinct time to one per latent frame or audio token; a single time (no rows)
    broadcasts."""
    return per_time if rows is None else F.embedding(rows, per_time.flatten(0, 1))


def shift_and_scale(
    table: Float[Tensor, "1 2 d"], embedding: Float[Tensor, "b k d"], rows: Int[Tensor, "b s"] | None
) -> tuple[Float[Tensor, "b s1 d"], Float[Tensor, "b s1 d"]]:
    """Returns the modulation of a head: a learned pair plus the time embedding. [Wan]"""
    shift, scale = (table.float()[:, None] + embedding[:, :, None]).unbind(2)
    return expand_modulation(shift, rows), expand_modulation(scale, rows)
