"""Lays out the speech prompt, the text of the audio branch with its times, for training and sampling alike.

With reference audio the prompt is the reference transcript, a blank, and the speech of the clip [release]. Without text
(classifier-free guidance, dropout) only the reference transcript is left, since the reference audio still stands in
front of the clip.

Letters: b batch, p speech symbols.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

import torch
from jaxtyping import Float, Int
from torch import Tensor

MIN_SYMBOLS = 10
"""Shorter texts are padded with fillers, which count as text. [release]"""
FILLER = 0


@dataclass(frozen=True)
class TimedText:
    """Pairs the symbols of a text with the audio token at which each of them is spoken."""

    symbols: Sequence[str]
    times: Float[Tensor, " p"] | None = None
    """Counted from the start of the recording of this text, NaN where unknown; None where all are unknown."""


def speech_prompt(speech: TimedText, reference: TimedText | None, reference_tokens: int) -> TimedText:
    """Returns the prompt with the times of its symbols, counted from the start of the reference audio.

    The transcript of the reference and a blank stand in front of the speech.

    speech: of the clip; an empty text is that of a pass without text, which then has the transcript only. [release]
    reference_tokens: audio tokens in front of the speech: the reference with its silence, or a silent given part.
    """
    front = [*reference.symbols, " "] if reference is not None and reference.symbols else []
    times = torch.full((len(front) + max(len(speech.symbols), _count(speech)),), nan)
    if reference is not None and reference.times is not None:
        times[: len(reference.times)] = reference.times
    # The blank between the two texts belongs to neither, so its time stays unknown.
    if speech.times is not None:
        times[len(front) : len(front) + len(speech.times)] = speech.times + reference_tokens
    # Without text the transcript has no blank behind it.
    return TimedText([*front, *speech.symbols] if speech.symbols else front[:-1], times)


def spread_evenly(symbols: Sequence[str], tokens: int) -> TimedText:
    """Returns a text whose symbols share `tokens` audio tokens evenly: a reference without word times. [ours]"""
    return TimedText(symbols, (torch.arange(len(symbols)) + 0.5) / max(len(symbols), 1) * tokens)


def starting_at(symbols: Sequence[str], first: float) -> TimedText:
    """Returns a text of which only the time of the first symbol is known; of an empty text that of the filler. [ours]

    Behind the reference the speech begins after the silence that a clip begins with, so that the predicted durations
    of the reference do not add up to an error.
    """
    return TimedText(symbols, torch.tensor([first]))


def encode_prompts(
    prompts: Sequence[TimedText], to_ids: Callable[[Sequence[str]], Sequence[int]]
) -> tuple[Int[Tensor, "b p"], Int[Tensor, " b"], Float[Tensor, "b p"]]:
    """Returns symbol ids, lengths (`pad_symbols`) and the times of the symbols, NaN where unknown."""
    symbols, lengths = pad_symbols([to_ids(prompt.symbols) for prompt in prompts])
    times = torch.full(symbols.shape, nan)
    for row, prompt in zip(times, prompts, strict=True):
        if prompt.times is not None:
            count = min(len(prompt.times), len(row))
            row[:count] = prompt.times[:count]
    return symbols, lengths, times


def pad_symbols(texts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "b p"], Int[Tensor, " b"]]:
    """Returns the symbol ids of several texts as one tensor, and their lengths, which count fillers to MIN_SYMBOLS."""
    lengths = [max(len(text), MIN_SYMBOLS) for text in texts]
    padded = torch.full((len(texts), max(lengths)), FILLER, dtype=torch.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64)
    return padded, torch.tensor(lengths, dtype=torch.int64)


def _count(text: TimedText) -> int:
    return 0 if text.times is None else len(text.times)
