"""Converts between seconds, pixel frames, latent frames and audio tokens: the only place with rates, strides and hops.

It also computes which of them belong together: the windows of audio-to-video interaction and the weights of
video-to-audio interaction ([paper 3.3], supplement 6.1 and 6.2). Arithmetic is of integers and Fractions except where
the authors' release rounds in floating point. Why a timebase is a value: docs/decisions/014-timebase-is-a-value.md.

Letters: F pixel frames, f latent frames, l audio tokens, r = l / F audio tokens per pixel frame.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from annotated_types import Interval

from uniavgen.config import Config, Width
from uniavgen.errors import ConfigError

NUM_FRAMES = 81
"""Frames of a clip where no number is given. [paper 4.1]"""


class Source(StrEnum):
    """Chooses whose rule to follow where the paper and the authors' release disagree (docs/faithfulness.md)."""

    PAPER = "paper"
    RELEASE = "release"


@dataclass(frozen=True, kw_only=True)
class Timebase(Config):
    """Holds the rates of a model. The defaults are the release's, and those of every preset."""

    fps: Annotated[Fraction, Interval(gt=0, le=1000)] = Fraction(16)
    """Pixel frames per second. [paper 4.1, release]"""
    temporal_stride: Width = 4
    """Pixel frames per latent frame, except the first, which holds one (causal video VAE). [release]"""
    sample_rate_hz: Annotated[int, Interval(ge=1000, le=1_000_000)] = 24_000
    """Audio samples per second. [paper 4.1, release]"""
    hop: Width = 240
    """Audio samples per mel frame; one mel frame is one audio token. [release]"""

    def clip(self, num_frames: int) -> "ClipTiming":
        """Returns the timing of a clip of `num_frames` pixel frames; raises ConfigError unless it is 1 + 4n."""
        return ClipTiming(base=self, num_frames=num_frames)

    @property
    def tokens_per_second(self) -> Fraction:
        """Audio tokens per second: 100 by default."""
        return Fraction(self.sample_rate_hz, self.hop)

    def tokens(self, num_samples: int) -> int:
        """Returns the number of whole audio tokens in `num_samples` samples."""
        return num_samples // self.hop

    def latent_frames(self, num_frames: int) -> int:
        """Returns the number of latent frames that hold the first `num_frames` pixel frames completely or in part."""
        return -(-(num_frames - 1) // self.temporal_stride) + 1 if num_frames > 0 else 0

    def frames_in(self, num_latent_frames: int) -> int:
        """Returns the number of pixel frames that `num_latent_frames` leading latent frames decode to."""
        return 1 + (num_latent_frames - 1) * self.temporal_stride if num_latent_frames > 0 else 0


@dataclass(frozen=True, kw_only=True)
class ClipTiming:
    """Counts frames, tokens and samples of a clip of `num_frames` pixel frames."""

    base: Timebase
    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1 or (self.num_frames - 1) % self.base.temporal_stride:
            below = max(self.num_frames - 1, 0) // self.base.temporal_stride * self.base.temporal_stride + 1
            raise ConfigError(
                f"a clip has 1 + {self.base.temporal_stride}n frames, got {self.num_frames}; "
                f"use {below} or {below + self.base.temporal_stride}"
            )

    @property
    def duration_s(self) -> Fraction:
        """Duration in seconds."""
        return self.num_frames / self.base.fps

    @property
    def num_latent_frames(self) -> int:
        """1 + (num_frames - 1) / temporal_stride."""
        return self.base.latent_frames(self.num_frames)

    @property
    def num_audio_tokens(self) -> int:
        """Whole audio tokens that fit into the duration. [release]"""
        return math.floor(self.duration_s * self.base.tokens_per_second)

    @property
    def num_samples(self) -> int:
        """Audio samples that the clip's tokens cover."""
        return self.num_audio_tokens * self.base.hop

    def frame_span(self, latent: int) -> tuple[int, int]:
        """Returns the pixel frames [start, stop) of a latent frame: the first has one, others `temporal_stride`."""
        return self.base.frames_in(latent), self.base.frames_in(latent + 1)

    def tokens_before(self, num_latent_frames: int) -> int:
        """Returns how many audio tokens end within the first latent frames: the given audio of a continuation."""
        return math.floor(self.base.frames_in(num_latent_frames) / self.base.fps * self.base.tokens_per_second)


def audio_windows(
    num_latent_frames: int,
    num_tokens: int,
    side_frames: int = 2,
    stride: int = 4,
    source: Source = Source.RELEASE,
) -> list[list[int]]:
    """Returns the audio-to-video windows: for each latent frame the audio tokens it attends to, all of one length.

    A window is the latent frame's own tokens plus `side_frames` pixel frames on either side: 12 + 13 tokens at the
    default 2, the paper's w = 12 [paper 3.3, eq. (3); supplement 6.1]. Windows shorter than the longest one grow
    outwards at the clip's edges and on both sides inside it, and indices are clamped, which repeats the first or last
    token [release]. 506 tokens and 21 latent frames give windows of 51.

    The release rounds in double precision and lets the first latent frame end one token, not one pixel frame, after
    its start. `Source.PAPER` rounds exactly and gives the first latent frame its whole pixel frame.
    """
    num_frames = 1 + (num_latent_frames - 1) * stride
    rate = num_tokens / num_frames if source is Source.RELEASE else Fraction(num_tokens, num_frames)
    left, right = math.floor(side_frames * rate), math.ceil(side_frames * rate)
    first_stop = 1 if source is Source.RELEASE else math.ceil(rate)
    bounds = [(-left, first_stop + right)]
    for latent in range(1, num_latent_frames):
        start, stop = (latent - 1) * stride + 1, latent * stride + 1
        bounds.append((math.floor(start * rate) - left, math.ceil(stop * rate) + right))
    length = max(stop - start for start, stop in bounds[1:] or bounds)
    windows = []
    for start, stop in bounds:
        missing = length - (stop - start)
        # What a window lacks lies before it at the start of the clip, behind it at the end, and on both sides between.
        before = missing if start < 0 else 0 if stop >= num_tokens else missing // 2
        first = start - before
        windows.append([min(max(token, 0), num_tokens - 1) for token in range(first, first + length)])
    return windows


class InterpolationRamp(StrEnum):
    """Chooses where the weight of the next latent frame rises in video-to-audio interaction."""

    LAST_FRAME = "last_frame"
    """Constant inside a latent frame, linear over its last pixel frame [supplement 6.2, release]."""
    FULL = "full"
    """Linear over the whole latent frame, as equation (4) is written [paper 3.3]."""


def interpolation_weights(
    num_tokens: int,
    num_latent_frames: int,
    stride: int = 4,
    ramp: InterpolationRamp = InterpolationRamp.LAST_FRAME,
    source: Source = Source.RELEASE,
) -> list[tuple[int, float, float]]:
    """Returns the video-to-audio weights: for each audio token `(i, w_i, w_next)` over latent frames i and i + 1.

    Where i is the last latent frame, `w_next` is 0.

    `InterpolationRamp.LAST_FRAME` repeats every latent frame over its pixel frames and interpolates between
    neighbouring pixel frames. The release gives tokens at or past the last pixel frame weights that sum to 2
    (`Source.RELEASE`), the paper weights that sum to 1. `InterpolationRamp.FULL` is equation (4):
    i = floor(j / k), a = j / k - i for audio token j, with k = tokens / latent frames.
    """
    last = num_latent_frames - 1
    if ramp is InterpolationRamp.FULL:
        k = Fraction(num_tokens, num_latent_frames)
        positions = [(int(j / k), float(j / k - int(j / k))) for j in range(num_tokens)]
        return [(i, 1.0 - a, a) if i < last else (last, 1.0, 0.0) for i, a in positions]

    num_frames = 1 + last * stride
    weights = []
    for token in range(num_tokens):
        position = Fraction(token * num_frames, num_tokens)
        frame = math.floor(position)
        if frame >= num_frames - 1:
            weights.append((last, 2.0 if source is Source.RELEASE else 1.0, 0.0))
            continue
        # Latent frames that hold this pixel frame and the next one: ceil(frame / stride), by floor division.
        latent, following = -(-frame // stride), -(-(frame + 1) // stride)
        a = float(position - frame)
        weights.append((latent, 1.0, 0.0) if latent == following else (latent, 1.0 - a, a))
    return weights
