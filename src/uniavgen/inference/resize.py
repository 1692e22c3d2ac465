"""From a picture or video of any size to the size that a model draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uniavgen.config import Config, parse
from uniavgen.errors import ConfigError, MediaError

MAX_ASPECT = 3.0
"""Longer side over shorter side of a picture, measured against the shape of the clip where that is given: beyond it
cropping keeps no person, and a clip of the picture's own shape is larger than anybody wants. [ours]"""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the source."""


@dataclass(frozen=True, kw_only=True)
class ResizeAndCrop(Config):
    """One fixed size: scaled to cover it, then cropped around the centre. [ours, for nano]"""

    kind: Literal["cover"] = "cover"
    height: int = 128
    width: int = 128

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ConfigError(f"a picture size must be at least 1 px, got {self.height}x{self.width}")

    def fit(self, height: int, width: int) -> tuple[int, int, Box]:
        """Target height and width, and the box of the source that fills it."""
        # Fractions: a box that rounding moves a hair outside the picture is refused.
        scale = max(Fraction(self.height, height), Fraction(self.width, width))
        top, left = (height - self.height / scale) / 2, (width - self.width / scale) / 2
        return self.height, self.width, (float(left), float(top), float(width - left), float(height - top))


@dataclass(frozen=True, kw_only=True)
class ResizeShortSide(Config):
    """The source's shape at a fixed shorter side, both sides rounded up to whole tokens, nothing cropped. [release]"""

    kind: Literal["short_side"] = "short_side"
    short_side_px: int = 720
    multiple: int = 32
    """Pixels of a video token's side."""

    def __post_init__(self) -> None:
        if min(self.short_side_px, self.multiple) < 1:
            raise ConfigError(f"sizes must be at least 1 px, got {self.short_side_px} and {self.multiple}")

    def fit(self, height: int, width: int) -> tuple[int, int, Box]:
        """Target height and width, and the box of the source that fills it: all of it."""
        short = self._up(self.short_side_px, 1)
        side = min(height, width)
        return self._up(height * short, side), self._up(width * short, side), (0.0, 0.0, float(width), float(height))

    def _up(self, numerator: int, denominator: int) -> int:
        return -(-numerator // (denominator * self.multiple)) * self.multiple


ResizeRule = ResizeAndCrop | ResizeShortSide


def resize_rule_for(own: ResizeRule, width: int, height: int) -> ResizeRule:
    """How pictures are brought to a size that was asked for; ConfigError where a model cannot draw it."""
    match own:
        case ResizeAndCrop():
            raise ConfigError(f"this model draws {own.width}x{own.height} px and nothing else; leave the size out")
        case ResizeShortSide(multiple=multiple):
            if min(width, height) < multiple or width % multiple or height % multiple:
                fitting = "x".join(str(max(round(side / multiple), 1) * multiple) for side in (width, height))
                raise ConfigError(
                    f"both sides of a clip are multiples of {multiple} px, got {width}x{height}; use {fitting}"
                )
            return ResizeAndCrop(height=height, width=width)


def parse_resize_rule(data: Mapping[str, Any]) -> ResizeRule:
    """A pipeline's `picture_config`; ConfigError where it is none."""
    return parse(ResizeAndCrop if data.get("kind") == "cover" else ResizeShortSide, data, origin="picture_config")


def resize(frames: UInt8[np.ndarray, "f h w 3"], size: ResizeRule) -> UInt8[np.ndarray, "f h2 w2 3"]:
    """Frames at the model's size, filtered so that fine detail does not alias; MediaError for too long a shape."""
    height, width = frames.shape[1:3]
    _check_shape(height, width, size)
    target_height, target_width, box = size.fit(height, width)
    if (target_height, target_width) == (height, width):
        return frames
    scaled = [
        Image.fromarray(frame).resize((target_width, target_height), Image.Resampling.BICUBIC, box=box)
        for frame in frames
    ]
    return np.stack([np.asarray(picture) for picture in scaled])


def _check_shape(height: int, width: int, size: ResizeRule) -> None:
    """MediaError for a picture that is too long."""
    match size:
        case ResizeAndCrop():
            stretch = Fraction(height * size.width, width * size.height)
            if max(stretch, 1 / stretch) > MAX_ASPECT:
                raise MediaError(
                    f"the picture is {width}x{height} px, of which a clip of {size.width}x{size.height} px shows less "
                    f"than {1 / MAX_ASPECT:.0%}; crop it"
                )
        case ResizeShortSide():
            if max(height, width) > MAX_ASPECT * min(height, width):
                raise MediaError(
                    f"the picture is {width}x{height} px; one side may be at most {MAX_ASPECT:g} times the other; "
                    "crop it, or give the size of the clip"
                )
