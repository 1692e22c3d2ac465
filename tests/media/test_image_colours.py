"""Images of every colour profile, mode and depth become the sRGB levels that their profile means."""

import numpy as np
import pytest
from PIL import Image

from uniavgen.media.image import read_image

from .icc import P3_TO_XYZ, SRGB_TO_XYZ, cmyk_profile, grey_profile, rgb_profile, srgb_levels, to_srgb

SIZE = (20, 24)
COLOURS = [(30, 200, 30), (220, 29, 31), (12, 40, 230), (128, 128, 128), (250, 240, 200)]


def colour_of(path) -> list[int]:
    pixels = read_image(path)
    assert pixels.shape == (SIZE[1], SIZE[0], 3)
    assert np.ptp(pixels, axis=(0, 1)).max() <= 2
    return pixels[0, 0].astype(int)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("colour", COLOURS)
def test_display_p3_becomes_srgb(tmp_path, name, colour):
    options = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
    profile = rgb_profile(P3_TO_XYZ, 2.2)
    Image.new("RGB", SIZE, colour).save(tmp_path / name, icc_profile=profile, **options)
    np.testing.assert_allclose(colour_of(tmp_path / name), to_srgb(colour, P3_TO_XYZ, 2.2), atol=3)


def test_profile_of_another_gamma_changes_levels(tmp_path):
    Image.new("RGB", SIZE, (100, 100, 100)).save(tmp_path / "a.png", icc_profile=rgb_profile(SRGB_TO_XYZ, 1.0))
    np.testing.assert_allclose(colour_of(tmp_path / "a.png"), srgb_levels(np.array([100 / 255])).repeat(3), atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "P", "P with a transparent entry"])
def test_profile_applies_below_transparency_and_palettes(tmp_path, mode):
    colour, profile = (30, 200, 30), rgb_profile(P3_TO_XYZ, 2.2)
    if mode == "RGBA":
        Image.new("RGBA", SIZE, (*colour, 128)).save(tmp_path / "a.png", icc_profile=profile)
    else:
        image = Image.new("P", SIZE, 0)
        image.putpalette([*colour, 9, 9, 9])
        options = {"transparency": 1} if mode.endswith("entry") else {}
        image.save(tmp_path / "a.png", icc_profile=profile, **options)
    want = to_srgb(colour, P3_TO_XYZ, 2.2)
    if mode == "RGBA":
        want = want * 128 / 255 + 127
    np.testing.assert_allclose(colour_of(tmp_path / "a.png"), want, atol=3)


def test_transparent_palette_entry_becomes_white(tmp_path):
    image = Image.new("P", SIZE, 1)
    image.putpalette([30, 200, 30, 9, 9, 9])
    image.save(tmp_path / "a.gif", transparency=1)
    assert colour_of(tmp_path / "a.gif").tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profile_applies(tmp_path, mode):
    level = {"L": 100, "LA": (100, 255), "I;16": 100 * 257}[mode]
    Image.new(mode, SIZE, level).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    np.testing.assert_allclose(colour_of(tmp_path / "a.png"), srgb_levels(np.array([100 / 255])).repeat(3), atol=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_profile_applies(tmp_path, name):
    Image.new("CMYK", SIZE, (0, 0, 0, 128)).save(tmp_path / name, icc_profile=cmyk_profile(), quality=100)
    lightness = 100 * (1 - 128 / 255)
    luminance = np.array([((lightness + 16) / 116) ** 3])
    np.testing.assert_allclose(colour_of(tmp_path / name), srgb_levels(luminance).repeat(3), atol=3)


def test_cmyk_without_profile_keeps_hue(tmp_path):
    Image.new("CMYK", SIZE, (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = colour_of(tmp_path / "a.jpg")
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("profile", [b"", b"no profile", grey_profile(1.0)])
def test_unusable_profile_is_ignored(tmp_path, profile):
    Image.new("RGB", SIZE, (30, 200, 30)).save(tmp_path / "a.png", icc_profile=profile)
    assert colour_of(tmp_path / "a.png").tolist() == [30, 200, 30]


def test_sixteen_bit_images_keep_their_levels(tmp_path):
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 100 * 257, np.uint16)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 100 / 255, np.float32)).save(tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        assert colour_of(tmp_path / name).tolist() == [100, 100, 100]


def test_lab_image_becomes_srgb(tmp_path):
    Image.new("LAB", SIZE, (128, 128, 128)).save(tmp_path / "a.tif")
    luminance = np.array([((100 * 128 / 255 + 16) / 116) ** 3])
    np.testing.assert_allclose(colour_of(tmp_path / "a.tif"), srgb_levels(luminance).repeat(3), atol=2)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_first_frame_of_an_animation_is_read(tmp_path, name):
    frames = [Image.new("RGB", SIZE, colour) for colour in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, **options)
    np.testing.assert_allclose(colour_of(tmp_path / name), (200, 30, 30), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(tmp_path, orientation):
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:10, :8] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / "a.png", exif=exif, icc_profile=rgb_profile(SRGB_TO_XYZ, 2.2))
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - upright).max() <= 2
