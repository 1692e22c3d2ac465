"""Tiny models with random weights everywhere (zero-initialised ones too), and inputs for them.

4 latent frames of 2 x 3 tokens, 81 audio tokens, 13 pixel frames; batch 2.
"""

from dataclasses import replace

import torch

from uniavgen.batch import Stream, TextInputs, TokenTimesteps
from uniavgen.config import load
from uniavgen.models.config import TransformerConfig
from uniavgen.models.interaction.config import InteractionConfig
from uniavgen.models.transformer import UniAVGenTransformer

BATCH, FRAMES, HEIGHT, WIDTH, TOKENS = 2, 4, 4, 6, 81


def settings(interaction: InteractionConfig | None = None) -> TransformerConfig:
    base = load(TransformerConfig, ["tiny/model"])
    return base if interaction is None else replace(base, interaction=interaction)


def model(interaction: InteractionConfig | None = None, seed: int = 0) -> UniAVGenTransformer:
    transformer = UniAVGenTransformer.from_settings(settings(interaction)).eval()
    randomise(transformer, seed)
    return transformer


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def video(*, given: int = 1, reference: int = 1, time: float = 0.7, seed: int = 1) -> Stream:
    """`given` leading latent frames are clean and receive nothing."""
    frames = reference + FRAMES
    index = (torch.arange(frames) >= reference + given).long().expand(BATCH, frames)
    return Stream(
        values=normal(BATCH, 5, frames, HEIGHT, WIDTH, seed=seed),
        timesteps=TokenTimesteps(unique=torch.tensor([[0.0, time], [0.0, time / 2]]), index=index),
        update_mask=(torch.arange(FRAMES) >= given).float().expand(BATCH, FRAMES),
        num_reference=reference,
    )


def audio(*, given: int = 0, reference: int = 0, time: float = 0.7, seed: int = 2) -> Stream:
    """`given` leading tokens are clean and receive nothing."""
    length = reference + TOKENS
    index = (torch.arange(length) >= reference + given).long().expand(BATCH, length)
    return Stream(
        values=normal(BATCH, length, 7, seed=seed),
        timesteps=TokenTimesteps(unique=torch.tensor([[0.0, time], [0.0, time / 2]]), index=index),
        update_mask=(torch.arange(TOKENS) >= given).float().expand(BATCH, TOKENS),
        num_reference=reference,
    )


def text() -> TextInputs:
    """A short and a long text."""
    speech = torch.arange(1, 12).repeat(BATCH, 1)
    return TextInputs(caption=normal(BATCH, 9, 11, seed=3), speech=speech, speech_length=torch.tensor([11, 6]))


def changed(stream: Stream, where: tuple) -> Stream:
    """The stream with other values at an index."""
    values = stream.values.clone()
    values[where] += 1.0
    return replace(stream, values=values)
