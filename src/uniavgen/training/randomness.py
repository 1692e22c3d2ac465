"""All that a step draws: one generator a purpose, seeded from (seed, step, rank), so there is no state to save."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair


class Purpose(IntEnum):
    """What a generator is for. Numbers are part of a run's identity; add new ones at the end."""

    TIME = 0
    NOISE_VIDEO = 1
    NOISE_AUDIO = 2
    DROPOUT = 3


@dataclass(frozen=True, kw_only=True)
class StepRandomness:
    """The random numbers of one step on one rank. They are drawn on the CPU, so every device sees the same."""

    seed: int
    step: int
    rank: int = 0

    def generator(self, purpose: Purpose) -> torch.Generator:
        """A fresh generator; two calls give the same numbers."""
        words = np.random.SeedSequence([self.seed, self.step, self.rank, int(purpose)]).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def times(self, batch: int) -> Float[Tensor, " b"]:
        """Uniform t in [0, 1), one a clip and for both branches."""
        return torch.rand(batch, generator=self.generator(Purpose.TIME))

    def dropout(self, batch: int) -> Float[Tensor, " b"]:
        """Uniform numbers that decide which clips lose texts and interaction."""
        return torch.rand(batch, generator=self.generator(Purpose.DROPOUT))

    def noise_like(self, clean: AVPair) -> AVPair:
        """Independent standard normal noise for both branches. A number instead of a tensor gives a 0."""

        def noise(like: Tensor | float, purpose: Purpose) -> Tensor | float:
            if not isinstance(like, Tensor):
                return 0.0
            return torch.randn(like.shape, generator=self.generator(purpose)).to(like.device)

        return AVPair(
            video=noise(clean.video, Purpose.NOISE_VIDEO),
            audio=noise(clean.audio, Purpose.NOISE_AUDIO),
        )
