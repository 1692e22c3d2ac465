"""Where somebody speaks: Silero VAD as faster-whisper ships it (MIT), a probability every 32 ms.

Letters: n steps.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from uniavgen.perception.packages import require
from uniavgen.perception.sound import SPEECH_RATE_HZ

VAD_PACKAGES = {"faster_whisper": "faster-whisper", "onnxruntime": "onnxruntime"}
STEP = 512
"""Samples of a step at 16 kHz. [Silero VAD]"""
STEP_S = STEP / SPEECH_RATE_HZ
_LEAD = 128
"""Steps of the block before that the network hears again, since it forgets between blocks. [ours]"""


class VoiceActivity:
    """The network, for sound of any length in blocks."""

    def __init__(self) -> None:
        self._network: Any = require("faster_whisper.vad", "voice activity", "faster-whisper").get_vad_model()

    def probabilities(self, blocks: Iterable[Float32[np.ndarray, " samples"]]) -> Float32[np.ndarray, " n"]:
        """Returns how likely each step of 32 ms is speech, over all blocks of a 16 kHz waveform."""
        lead = np.zeros(_LEAD * STEP, np.float32)
        found = [np.zeros(0, np.float32)]
        for block in _whole_steps(blocks):
            block_scores = self._network(np.concatenate([lead, block]))
            found.append(np.asarray(block_scores, np.float32).ravel()[_LEAD:])
            lead = np.concatenate([lead, block])[-_LEAD * STEP :]
        return np.concatenate(found)


def _whole_steps(blocks: Iterable[Float32[np.ndarray, " samples"]]) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Yields the sound in blocks of whole steps; the last one is filled up with zeros."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        joined = np.concatenate([rest, block])
        whole = len(joined) // STEP * STEP
        rest = joined[whole:]
        if whole:
            yield joined[:whole]
    if len(rest):
        yield np.pad(rest, (0, STEP - len(rest)))


def speech_intervals(
    probabilities: Float[np.ndarray, " n"], begin: float, end: float, min_speech_s: float, min_pause_s: float
) -> list[tuple[float, float]]:
    """Returns start and end in seconds of stretches of speech: from a step above `begin` to the next below `end`.

    Pauses shorter than `min_pause_s` are closed first, then stretches shorter than `min_speech_s` are dropped.
    """
    intervals: list[tuple[float, float]] = []
    start: int | None = None
    for step, probability in enumerate([*probabilities.tolist(), 0.0]):
        if start is None and probability >= begin:
            start = step
        elif start is not None and (probability < end or step == len(probabilities)):
            if intervals and start * STEP_S - intervals[-1][1] < min_pause_s:
                intervals[-1] = (intervals[-1][0], step * STEP_S)
            else:
                intervals.append((start * STEP_S, step * STEP_S))
            start = None
    return [(a, b) for a, b in intervals if b - a >= min_speech_s]
