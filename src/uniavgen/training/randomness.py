"""All random numbers of training. A step has a generator for each purpose, seeded from (seed, step, rank), so there is
no state to save.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniavgen.batch import AVPair


class Purpose(IntEnum):
    """What a generator is used for. The values seed it, so new ones go at the end."""

    TIME = 0
    NOISE_VIDEO = 1
    NOISE_AUDIO = 2
    DROPOUT = 3


@dataclass(frozen=True, kw_only=True)
class StepRandomness:
    """The random numbers of one step on one rank, drawn on the CPU, so that they are the same for every device."""

    seed: int
    step: int
    rank: int = 0

    def generator(self, purpose: Purpose) -> torch.Generator:
        """Returns a new generator; two calls give the same numbers."""
        return torch_generator(self.seed, self.step, self.rank, int(purpose))

    def times(self, batch: int) -> Float[Tensor, " b"]:
        """Returns uniform t in [0, 1), one for each clip and shared by both branches."""
        return torch.rand(batch, generator=self.generator(Purpose.TIME))

    def dropout(self, batch: int) -> Float[Tensor, " b"]:
        """Returns uniform numbers in [0, 1) that decide which clips lose texts and interaction."""
        return torch.rand(batch, generator=self.generator(Purpose.DROPOUT))

    def noise_like(self, clean: AVPair) -> AVPair:
        """Returns independent standard normal noise for both branches; 0 in place of a number."""

        def noise(like: Tensor | float, purpose: Purpose) -> Tensor | float:
            if not isinstance(like, Tensor):
                return 0.0
            return torch.randn(like.shape, generator=self.generator(purpose)).to(like.device)

        return AVPair(
            video=noise(clean.video, Purpose.NOISE_VIDEO),
            audio=noise(clean.audio, Purpose.NOISE_AUDIO),
        )


def torch_generator(*words: int) -> torch.Generator:
    """Returns a generator of the CPU that is seeded from whole numbers, such as a seed and a step."""
    low, high = np.random.SeedSequence(words).generate_state(2)
    return torch.Generator().manual_seed(int(low) << 31 | int(high) >> 1)


@contextmanager
def default_generator(generator: torch.Generator) -> Iterator[None]:
    """Lets the default generator of the CPU draw from `generator`, which goes on behind what was drawn.

    For initial weights: constructors of torch and transformers take no generator. The caller's random state is
    restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Returns the generator of a codec's step: which samples, which crops."""
    return np.random.default_rng((seed, step))
