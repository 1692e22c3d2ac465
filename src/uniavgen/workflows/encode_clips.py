"""Encodes one clip of a data set after the other: its transcript, its length and its picture size are fitted first.

Letters: F pixel frames, H W frame size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import log
from typing import Final

import numpy as np
from jaxtyping import Bool
from PIL import Image

from uniavgen.codecs.speech_symbols import SpeechSymbols
from uniavgen.data.extract import FeatureExtractor
from uniavgen.data.features import EMPTY_CAPTION, Features
from uniavgen.data.sample import Sample
from uniavgen.data.transcript import cut_transcript, normalize_transcript
from uniavgen.errors import ConfigError, DataError, MediaError
from uniavgen.inference.resize import ResizeAndCrop, resize
from uniavgen.timebase import ClipTiming

_MAX_OVERRUN_S: Final = 0.5
"""Audio behind a clip's end that may be silence. [ours]"""


class FitRule(StrEnum):
    """What happens to a clip whose picture size is none of those that features are made of."""

    EXACT = "exact"
    """It is left out."""
    CROP = "crop"
    """It is scaled to cover the size that is nearest in aspect, of those the nearest in area, and cropped around its
    centre. [ours]"""


@dataclass(kw_only=True)
class ClipEncoder:
    """Reads and encodes the clips of one folder of features.

    Raises ConfigError where a size cannot be cut into video tokens.
    """

    extract: FeatureExtractor
    symbols: SpeechSymbols
    verbatim: bool
    lengths: tuple[ClipTiming, ...]
    """The shortest first."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Widths and heights; where there are none, all clips have the size of the first."""
    fit: FitRule = FitRule.EXACT
    first_size: tuple[int, int] | None = None
    """Width and height of the first clip's frames."""
    num_overlong: int = 0
    """Clips that were cut although the times of their words are unknown."""

    def __post_init__(self) -> None:
        side = self.extract.side
        wrong = next((size for size in self.sizes if min(size) < 1 or size[0] % side or size[1] % side), None)
        if wrong is not None:
            raise ConfigError(f"a picture size has multiples of {side} px, got {wrong[0]}x{wrong[1]}; choose another")

    def __call__(self, key: str, read: Callable[[str], Sample]) -> Features:
        """Returns the features of a sample. Raises DataError where it cannot be used."""
        if key == EMPTY_CAPTION:
            raise DataError(f"the key '{key}' is taken by the features of the empty caption; rename the sample")
        sample = normalize_transcript(read(key), self.symbols, self.verbatim)
        timing = self._timing(sample)
        sample = self._fitted(cut_transcript(sample, float(timing.duration_s)))
        # First what is wrong with the sample alone, so that its reason is the same on every run.
        self.extract.check(sample, timing)
        if not self.sizes and sample.frames is not None:
            self._check_first_size(sample)
        features = self.extract(sample, timing)
        duration_s = len(sample.waveform) / timing.base.sample_rate_hz
        self.num_overlong += not sample.words and duration_s > timing.duration_s + _MAX_OVERRUN_S
        return features

    def _timing(self, sample: Sample) -> ClipTiming:
        """Returns the length of a clip: the longest that its video fills, or the shortest that holds its speech."""
        if self.extract.video is not None and sample.frames is not None:
            filled = [timing for timing in self.lengths if timing.num_frames <= len(sample.frames)]
            return filled[-1] if filled else self.lengths[0]
        spoken_s = len(sample.waveform) / self.lengths[0].base.sample_rate_hz
        if sample.words:
            spoken_s = min(spoken_s, max(word.end_s for word in sample.words))
        return next((timing for timing in self.lengths if timing.duration_s >= spoken_s), self.lengths[-1])

    def _fitted(self, sample: Sample) -> Sample:
        """Returns a sample of one of `sizes`. Raises DataError where it has and gets none."""
        if not self.sizes or sample.frames is None:
            return sample
        height, width = sample.frames.shape[1:3]
        if (width, height) in self.sizes:
            return sample
        if self.fit is FitRule.EXACT:
            sizes = " or ".join(f"{expected[0]}x{expected[1]}" for expected in self.sizes)
            raise DataError(
                f"sample '{sample.key}' is {width}x{height} px, expected {sizes}; name its size with --size, or "
                "crop it with --fit crop"
            )
        rule = _nearest_size(self.sizes, width, height)
        try:
            frames = resize(sample.frames, rule)
        except MediaError as error:
            raise DataError(f"sample '{sample.key}' cannot be cropped: {error}") from error
        mask = None if sample.face_mask is None else _resized_mask(sample.face_mask, rule)
        return replace(sample, frames=frames, face_mask=mask)

    def _check_first_size(self, sample: Sample) -> None:
        """Raises DataError where a clip has another size than the first one."""
        assert sample.frames is not None
        height, width = sample.frames.shape[1:3]
        self.first_size = self.first_size or (width, height)
        if (width, height) != self.first_size:
            raise DataError(
                f"sample '{sample.key}' is {width}x{height} px, the clips before are {self.first_size[0]}x"
                f"{self.first_size[1]} px; name all sizes that clips may have with --size, or crop them with --fit crop"
            )


def _nearest_size(sizes: tuple[tuple[int, int], ...], width: int, height: int) -> ResizeAndCrop:
    """Returns the rule for the size that is nearest in aspect, of those the nearest in area."""

    def distance(size: tuple[int, int]) -> tuple[float, float]:
        aspect, area = size[0] / size[1], size[0] * size[1]
        return round(abs(log(aspect * height / width)), 9), abs(log(area / (width * height)))

    nearest = min(sizes, key=distance)
    return ResizeAndCrop(width=nearest[0], height=nearest[1])


def _resized_mask(mask: Bool[np.ndarray, "F H W"], rule: ResizeAndCrop) -> Bool[np.ndarray, "F H2 W2"]:
    """Returns a mask of frames that `resize` has fitted, true where half a pixel or more is."""
    height, width, box = rule.fit(*mask.shape[1:])
    images = [Image.fromarray(frame.astype(np.uint8) * 255) for frame in mask]
    scaled = [np.asarray(image.resize((width, height), Image.Resampling.BOX, box=box)) for image in images]
    return np.stack(scaled) >= 128
