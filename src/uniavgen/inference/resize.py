"""Resizes and crops images and videos of any size to the size that a model generates."""

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
"""Largest ratio of the sides of an image, relative to those of the clip where they are given. Beyond it cropping leaves
no person in view, and a clip of the image's shape would be too large. [ours]"""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the source."""


@dataclass(frozen=True, kw_only=True)
class ResizeAndCrop(Config):
    """Scales to cover one fixed size, then crops around the centre. [ours, for nano]"""

    kind: Literal["cover"] = "cover"
    height: int = 128
    width: int = 128

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ConfigError(f"a picture size must be at least 1 px, got {self.height}x{self.width}")

    def fit(self, height: int, width: int) -> tuple[int, int, Box]:
        """Returns the target height and width, and the box of the source that fills them."""
        # Fractions, since Pillow refuses a box that rounding moves slightly outside of the image.
        scale = max(Fraction(self.height, height), Fraction(self.width, width))
        top, left = (height - self.height / scale) / 2, (width - self.width / scale) / 2
        return self.height, self.width, (float(left), float(top), float(width - left), float(height - top))


@dataclass(frozen=True, kw_only=True)
class ResizeShortSide(Config):
    """Scales to a fixed shorter side, both sides rounded up to whole tokens; crops nothing. [release]"""

    kind: Literal["short_side"] = "short_side"
    short_side_px: int = 720
    multiple: int = 32
    """Pixels of a video token's side."""

    def __post_init__(self) -> None:
        if min(self.short_side_px, self.multiple) < 1:
            raise ConfigError(f"sizes must be at least 1 px, got {self.short_side_px} and {self.multiple}")

    def fit(self, height: int, width: int) -> tuple[int, int, Box]:
        """Returns the target height and width, and the box of the source that fills them: all of it."""
        short = self._up(self.short_side_px, 1)
        side = min(height, width)
        return self._up(height * short, side), self._up(width * short, side), (0.0, 0.0, float(width), float(height))

    def _up(self, numerator: int, denominator: int) -> int:
        return -(-numerator // (denominator * self.multiple)) * self.multiple


ResizeRule = ResizeAndCrop | ResizeShortSide


def resize_rule_for(model_rule: ResizeRule, width: int, height: int) -> ResizeRule:
    """Returns the rule for a clip of `width` by `height` pixels, given the model's own rule.

    Raises ConfigError where the model cannot generate that size.
    """
    match model_rule:
        case ResizeAndCrop():
            if (width, height) == (model_rule.width, model_rule.height):
                return model_rule
            raise ConfigError(
                f"this model draws {model_rule.width}x{model_rule.height} px and nothing else; leave the size out"
            )
        case ResizeShortSide(multiple=multiple):
            if min(width, height) < multiple or width % multiple or height % multiple:
                fitting = "x".join(str(max(round(side / multiple), 1) * multiple) for side in (width, height))
                raise ConfigError(
                    f"both sides of a clip are multiples of {multiple} px, got {width}x{height}; use {fitting}"
                )
            return ResizeAndCrop(height=height, width=width)


def parse_resize_rule(data: Mapping[str, Any]) -> ResizeRule:
    """Returns the rule of a pipeline's `picture_config`. Raises ConfigError where it is none."""
    return parse(ResizeAndCrop if data.get("kind") == "cover" else ResizeShortSide, data, origin="picture_config")


def resize(frames: UInt8[np.ndarray, "f h w 3"], size: ResizeRule) -> UInt8[np.ndarray, "f h2 w2 3"]:
    """Returns the frames at the size of the clip, by bicubic interpolation with antialiasing.

    Raises MediaError for frames whose shape exceeds MAX_ASPECT.
    """
    height, width = frames.shape[1:3]
    _check_shape(height, width, size)
    target_height, target_width, box = size.fit(height, width)
    if (target_height, target_width) == (height, width):
        return frames
    scaled = [
        Image.fromarray(frame).resize((target_width, target_height), Image.Resampling.BICUBIC, box=box)
        for frame in frames
    ]
    return np.stack([np.asarray(image) for image in scaled])


def _check_shape(height: int, width: int, size: ResizeRule) -> None:
    """Raises MediaError for frames whose shape exceeds MAX_ASPECT."""
    match size:
        case ResizeAndCrop():
            distortion = Fraction(height * size.width, width * size.height)
            if max(distortion, 1 / distortion) > MAX_ASPECT:
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
