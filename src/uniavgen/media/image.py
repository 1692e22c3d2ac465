"""Images: every mode and colour profile that Pillow reads becomes upright 8 bit sRGB, with alpha over white."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from uniavgen.artifacts import atomic_file
from uniavgen.errors import MediaError
from uniavgen.media.reader import check_readable

MIN_SIDE_PX = 16
"""Below this an image shows no face. [ours]"""
MAX_SIDE_PX = 8192
"""Above this an image is refused before it is decoded. [ours]"""
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def read_image(path: str | Path) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the image of a file as sRGB, turned as its EXIF tag says; the first frame of an animation.

    Colours pass through the embedded ICC profile. Raises MediaError where the file is missing, damaged, no image, or
    where a side is outside MIN_SIDE_PX to MAX_SIDE_PX.
    """
    file = check_readable(Path(path))
    try:
        # The limits below are stricter than Pillow's, whose own warning would go to the user.
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            _check_size(path, image)
            image.load()
            return np.array(_to_srgb(ImageOps.exif_transpose(image)))
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} has too many pixels; a side may have at most {MAX_SIDE_PX}; shrink it") from error
    except UnidentifiedImageError as error:
        raise MediaError(f"{path} is not a picture that can be read; save it as PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(f"{path} is a damaged or incomplete picture ({error}); save it again") from error


def write_image(path: str | Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Writes a PNG (or what the ending says) whole or not at all. Raises OutputError where it cannot be written."""
    with atomic_file(Path(path)) as partial:
        Image.fromarray(image).save(partial)


def _check_size(path: str | Path, image: Image.Image) -> None:
    size = f"{path} is {image.width}x{image.height} px"
    if min(image.size) < MIN_SIDE_PX:
        raise MediaError(f"{size}; each side needs at least {MIN_SIDE_PX} px; use a larger picture")
    if max(image.size) > MAX_SIDE_PX:
        raise MediaError(f"{size}; a side may have at most {MAX_SIDE_PX} px; shrink it")


def _to_srgb(image: Image.Image) -> Image.Image:
    """Returns an RGB image: 8 bits a channel, profile applied, transparent parts white."""
    profile = image.info.get("icc_profile")
    image = _eight_bit(image)
    if image.mode == "LAB":
        return _through_profile(image, ImageCms.createProfile("LAB"))
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    if image.mode in ("1", "P", "PA") or has_alpha:
        # Palettes and transparency keys become channels. Grey stays grey: its profile has one channel too.
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert(("LA" if grey else "RGBA") if has_alpha else ("L" if grey else "RGB"))
    alpha = image.getchannel("A") if has_alpha else None
    colours = image.convert(image.mode.rstrip("A")) if has_alpha else image
    rgb = _through_profile(colours, io.BytesIO(profile)) if profile else colours.convert("RGB")
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, (255, 255, 255)), alpha)


def _through_profile(image: Image.Image, profile: Any) -> Image.Image:
    """Returns the image in sRGB, or its plain conversion where the profile is damaged or made for other channels.

    `profile` is a CmsProfile or an open file of one; pillow exports no type for the former.
    """
    try:
        source = ImageCms.ImageCmsProfile(profile)
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image.convert("RGB")
    return image.convert("RGB") if converted is None else converted


def _eight_bit(image: Image.Image) -> Image.Image:
    """Returns images of 16 bit and of floating point samples as 8 bit grey; Pillow would clip instead of scaling."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64) / 257
    elif image.mode == "F":
        levels = np.asarray(image, dtype=np.float64)
        levels = levels * (255.0 if levels.max(initial=0.0) <= 1.0 else 1.0)
    else:
        return image
    grey = Image.fromarray(np.clip(np.nan_to_num(levels), 0, 255).round().astype(np.uint8))
    if "transparency" in image.info and isinstance(image.info["transparency"], int):
        opaque = np.asarray(image) != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey
