"""Every kind of image file becomes upright 8-bit RGB; every broken one is an UnreadableImage."""

import io
import struct
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from research.data.images import UnreadableImage, decode, from_array, resize

COLOUR = (200, 30, 90)


def encoded(image, format, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def pixel(file) -> tuple[int, int, int]:
    image = decode(file, "x")
    assert image.mode == "RGB"
    return image.getpixel((3, 2))


def flat(mode="RGB", colour=COLOUR):
    return Image.new(mode, (16, 12), colour)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_are_exact(format, options):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    read = decode(encoded(Image.fromarray(noise), format, **options), "x")
    np.testing.assert_array_equal(np.asarray(read), noise)


def test_jpeg():
    np.testing.assert_allclose(pixel(encoded(flat(), "JPEG", quality=95)), COLOUR, atol=3)


def test_gif_gives_its_first_frame():
    frames = [flat(), flat(colour=(0, 255, 0))]
    file = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(pixel(file), COLOUR, atol=3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "GIF"])
def test_grey_is_repeated(format):
    assert pixel(encoded(flat("L", 77), format)) == (77, 77, 77)


def test_bilevel():
    assert pixel(encoded(flat("1", 1), "PNG")) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_transparent_pixels_lie_on_white(format):
    assert pixel(encoded(flat("RGBA", (0, 0, 0, 0)), format)) == (255, 255, 255)
    half = pixel(encoded(flat("RGBA", (255, 0, 0, 128)), format))
    np.testing.assert_allclose(half, (255, 127, 127), atol=1)


def test_grey_with_alpha():
    assert pixel(encoded(flat("LA", (0, 0)), "PNG")) == (255, 255, 255)


def test_palette_and_its_transparency():
    palette = flat().quantize(4)
    np.testing.assert_allclose(pixel(encoded(palette, "PNG")), COLOUR, atol=3)
    clear = palette.getpixel((3, 2))
    assert pixel(encoded(palette, "PNG", transparency=clear)) == (255, 255, 255)
    assert pixel(encoded(palette, "GIF", transparency=clear)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format):
    levels = np.array([[0, 257 * 10, 257 * 128, 257 * 200, 65535]], np.uint16)
    read = np.asarray(decode(encoded(Image.fromarray(levels), format), "x"))
    np.testing.assert_array_equal(read[0, :, 0], [0, 10, 128, 200, 255])


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_png_with_colour_and_alpha(kind, channels):
    """Written by hand, because Pillow writes 16 bits of grey only."""
    levels = np.array([0, 257 * 10, 257 * 128, 257 * 200, 65535], ">u2")
    pixels = np.repeat(levels[:, None], channels, 1)
    if kind in (4, 6):
        pixels[:, -1] = 65535  # opaque

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    header = struct.pack(">IIBBBBB", 5, 1, 16, kind, 0, 0, 0)
    file = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", compress(b"\0" + pixels.tobytes()))
        + chunk(b"IEND", b"")
    )
    read = np.asarray(decode(file, "x"))
    np.testing.assert_array_equal(read, [[[level] * 3 for level in (0, 10, 128, 200, 255)]])


def test_cmyk():
    cyan = flat("CMYK", (255, 0, 0, 0))
    np.testing.assert_allclose(pixel(encoded(cyan, "JPEG", quality=95)), (0, 255, 255), atol=3)
    assert pixel(encoded(cyan, "TIFF")) == (0, 255, 255)


def test_exif_rotation_is_honoured():
    image = flat()
    image.paste((0, 0, 255), (0, 0, 16, 6))  # blue above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn 90 degrees clockwise
    for format in ("JPEG", "PNG", "TIFF", "WEBP"):
        upright = decode(encoded(image, format, exif=exif), "x")
        assert upright.size == (12, 16)
        right, left = upright.getpixel((10, 8)), upright.getpixel((1, 8))
        assert right[2] > 200
        assert right[0] < 60  # what was above is on the right
        assert left[0] > 150


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_truncated_files_are_unreadable(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = encoded(Image.fromarray(noise), format)
    for share in (0.6, 0.1):
        with pytest.raises(UnreadableImage, match=r"bad/photo.*skip_bad_images"):
            decode(file[: int(len(file) * share)], "bad/photo")


@pytest.mark.parametrize("file", [b"", b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_unreadable(file):
    with pytest.raises(UnreadableImage):
        decode(file, "x")


def test_other_decoders_never_run():
    with pytest.raises(UnreadableImage):
        decode(encoded(flat(), "PPM"), "x.png")


def test_float_pixels_are_unreadable_not_guessed():
    with pytest.raises(UnreadableImage):
        decode(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "x")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays(shape):
    image = from_array(np.full(shape, 255, np.uint8))
    assert image.size == (5, 4)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_resize_antialiases():
    board = np.indices((64, 64)).sum(0) % 2 * 255  # the finest checkerboard averages to grey
    small = resize(from_array(board.astype(np.uint8)), 8)
    assert small.shape == (8, 8, 3)
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small, 127, atol=3)


def test_resize_leaves_the_right_size_alone():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(Image.fromarray(noise), 8), noise)
