"""Pictures: any mode that pillow reads becomes RGB, upright, alpha over white."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError
from uniavgen.media.probe import check_readable

MIN_SIDE_PX = 16
"""Below this a picture shows no face. [ours]"""
MAX_SIDE_PX = 8192
"""Above this a picture is refused before it is decoded. [ours]"""


def read_image(path: str | Path) -> UInt8[np.ndarray, "height width 3"]:
    """The picture in a file, turned as its EXIF tag says; the first one where a file holds several.

    MediaError where it is missing, damaged, no picture, or a side is outside MIN_SIDE_PX to MAX_SIDE_PX.
    """
    file = check_readable(Path(path))
    try:
        # The limits below are stricter than pillow's, whose own warning would go to the user.
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            _check_size(path, image)
            image.load()
            upright = ImageOps.exif_transpose(image)
            return np.array(_rgb(upright))
    except Image.DecompressionBombError:
        raise MediaError(f"{path} has too many pixels; a side may have at most {MAX_SIDE_PX}; shrink it") from None
    except UnidentifiedImageError:
        raise MediaError(f"{path} is not a picture that can be read; save it as PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(f"{path} is a damaged or incomplete picture ({error}); save it again") from error


def write_image(path: str | Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a PNG (or what the ending says) whole or not at all; MediaError where it cannot be written."""
    with atomic_file(Path(path)) as partial:
        Image.fromarray(picture).save(partial)


def _check_size(path: str | Path, image: Image.Image) -> None:
    size = f"{path} is {image.width}x{image.height} px"
    if min(image.size) < MIN_SIDE_PX:
        raise MediaError(f"{size}; each side needs at least {MIN_SIDE_PX} px; use a larger picture")
    if max(image.size) > MAX_SIDE_PX:
        raise MediaError(f"{size}; a side may have at most {MAX_SIDE_PX} px; shrink it")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # pillow clips 16 bit values instead of scaling them.
        scaled = np.clip(np.asarray(image, dtype=np.float64) / 257, 0, 255).round()
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
