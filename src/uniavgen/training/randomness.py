"""All random numbers of training. A sample has a generator for each purpose, seeded from (seed, sample number), so
there is no state to save.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    TIME_AUDIO = 4


@dataclass(frozen=True, kw_only=True)
class SampleRandomness:
    """The random numbers of the samples of one batch, drawn on the CPU, so that they are the same for every device.

    They follow the global number of a sample, so they do not depend on how many processes share a step.
    """

    seed: int
    samples: Sequence[int]
    """Global sample numbers, as in `data.sampler`."""

    def split(self, size: int) -> "list[SampleRandomness]":
        """Returns the random numbers of parts of at most `size` samples."""
        firsts = range(0, len(self.samples), size)
        return [replace(self, samples=self.samples[first : first + size]) for first in firsts]

    def generators(self, purpose: Purpose) -> list[torch.Generator]:
        """Returns a new generator for every sample; two calls give the same numbers."""
        return [torch_generator(self.seed, sample, int(purpose)) for sample in self.samples]

    def times(self) -> Float[Tensor, " b"]:
        """Returns uniform t in [0, 1), one for each clip: of both branches, or of the video alone."""
        return self._uniform(Purpose.TIME)

    def audio_times(self) -> Float[Tensor, " b"]:
        """Returns uniform t in [0, 1) of the audio, where it has times of its own."""
        return self._uniform(Purpose.TIME_AUDIO)

    def dropout(self) -> Float[Tensor, " b"]:
        """Returns uniform numbers in [0, 1) that decide which clips lose texts and interaction."""
        return self._uniform(Purpose.DROPOUT)

    def noise_like(self, clean: AVPair) -> AVPair:
        """Returns independent standard normal noise for both branches; 0 in place of a number."""

        def noise(like: Tensor | float, purpose: Purpose) -> Tensor | float:
            if not isinstance(like, Tensor):
                return 0.0
            drawn = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators(purpose)]
            return torch.stack(drawn).to(like.device, non_blocking=True)

        return AVPair(
            video=noise(clean.video, Purpose.NOISE_VIDEO),
            audio=noise(clean.audio, Purpose.NOISE_AUDIO),
        )

    def _uniform(self, purpose: Purpose) -> Float[Tensor, " b"]:
        return torch.cat([torch.rand(1, generator=generator) for generator in self.generators(purpose)])


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
