"""What the audio branch is told to say [release], and when, as far as a task knows it.

Letters: b batch, p speech symbols.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_SYMBOLS = 10
"""Shorter texts are filled up, and the filler counts as text. [release]"""
FILLER = 0


def cond_text(speech: str, reference_transcript: str | None = None) -> str:
    """Speech text of a pass with text: with reference audio its transcript stands in front of the new text."""
    return uncond_text(reference_transcript) + speech


def uncond_text(reference_transcript: str | None = None) -> str:
    """Speech text of a pass without text: nothing, or the reference's transcript, since its audio is still there."""
    return f"{reference_transcript} " if reference_transcript else ""


def symbol_timestamps(
    num_symbols: int, transcript: int, reference_tokens: int, silence_tokens: int, onset: float
) -> Float[Tensor, "1 p"]:
    """Audio tokens of `num_symbols` symbols, the first `transcript` of them said by a reference of `reference_tokens`
    audio tokens that ends in silence: its symbols evenly over its sound, what comes first after them `onset` tokens
    after it, and NaN behind that. Silence in front of the speech is such a reference of 0 symbols. [ours]"""
    times = torch.full((num_symbols,), torch.nan)
    sounding = reference_tokens - silence_tokens
    times[:transcript] = (torch.arange(transcript) + 0.5) / max(transcript, 1) * sounding
    # The blank between the two texts belongs to neither.
    first = transcript + 1 if transcript else 0
    times[first : first + 1] = reference_tokens + onset
    return times[None]


def pad_symbols(texts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "b p"], Int[Tensor, " b"]]:
    """Symbol ids of several texts as one tensor, and their lengths, which include the filler up to MIN_SYMBOLS."""
    lengths = [max(len(text), MIN_SYMBOLS) for text in texts]
    padded = torch.full((len(texts), max(lengths)), FILLER, dtype=torch.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64)
    return padded, torch.tensor(lengths, dtype=torch.int64)
