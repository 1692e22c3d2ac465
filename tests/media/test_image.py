import numpy as np
import pytest
from PIL import Image

from uniavgen.errors import MediaError
from uniavgen.media.image import read_image, write_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_image_of_every_mode_becomes_rgb(tmp_path, mode):
    picture = Image.new(mode, (20, 30), 0 if mode in ("1", "L", "P", "I;16") else None)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr", "LA") else "a.png")
    # Pillow 12 cannot read back the YCbCr that it writes uncompressed.
    picture.save(path, compression="tiff_lzw" if path.suffix == ".tif" else None)
    assert read_image(path).shape == (30, 20, 3)


def test_alpha_lies_over_white(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 3] = 128
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert abs(int(read_image(tmp_path / "a.png").mean()) - 127) <= 1


def test_sixteen_bit_image_is_scaled_and_not_clipped(tmp_path):
    Image.fromarray(np.full((16, 16), 32768, np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [128, 128, 128]


def test_exif_orientation_turns_the_image_upright(tmp_path):
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)


def test_png_round_trip(tmp_path, rng):
    picture = rng.integers(0, 256, (17, 23, 3), np.uint8)
    write_image(tmp_path / "sub" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "sub" / "a.png"), picture)


def test_truncated_pictures_are_refused(tmp_path, rng):
    for suffix in (".png", ".jpg", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(MediaError, match="damaged or incomplete"):
            read_image(path)


@pytest.mark.parametrize(("size", "words"), [((15, 64), "at least 16"), ((9000, 16), "at most 8192")])
def test_image_sizes_out_of_range_are_refused(tmp_path, size, words):
    Image.new("L", size).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match=words):
        read_image(tmp_path / "a.png")


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(MediaError, match="8192"):
        read_image(tmp_path / "a.png")
