"""Predicts the face mask that weights interaction (face-aware modulation). [paper 3.4, eq. (7), (8)]

Letters: b batch, f latent frames, n video tokens a frame, k distinct times, d width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from uniavgen.models.modulation import shift_and_scale, without_autocast


class Float32Linear(nn.Linear):
    """Computes W x + b in float32, whatever the precision of its weights. An adapter can wrap it."""

    def forward(self, hidden: Float[Tensor, "*b d"]) -> Float[Tensor, "*b out"]:
        """Returns W x + b."""
        return F.linear(hidden.float(), self.weight.float(), self.bias.float())


class FaceMaskHead(nn.Module):
    """Predicts M = sigmoid(W (gamma * LN(H) + beta) + b), with gamma and beta from the flow time. [eq. (8), release]"""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.proj = Float32Linear(width, 1)

    def forward(
        self,
        video: Float[Tensor, "b f n d"],
        time_embedding: Float[Tensor, "b k d"],
        time_rows: Int[Tensor, "b f"] | None,
    ) -> Float[Tensor, "b f n"]:
        """Returns the probability in (0, 1) that a video token shows the face, float32.

        time_rows: row of each latent frame's time in the embedding (`modulation.timestep_index`).
        """
        with without_autocast(video):
            shift, scale = shift_and_scale(self.scale_shift_table, time_embedding, time_rows)
            hidden = torch.addcmul(shift[:, :, None], self.norm(video.float()), 1 + scale[:, :, None])
            return torch.sigmoid(self.proj(hidden))[..., 0]
