"""Any image file to RGB, and any RGB image to the square the network wants.

Every kind of pixel becomes 8-bit RGB: grey is repeated, transparent pixels lie on white, 16-bit
values are scaled (the high byte), CMYK and palettes are converted. The camera's EXIF rotation is
applied.
"""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from research.runtime.errors import UserError

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
)

# Only these decoders run, whatever a file claims to be: others (EPS) start programs.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")

# What Pillow raises on truncated, empty, hostile or foreign files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadableImage(UserError):
    """A file that is no image, or a broken one."""


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    if image.mode.startswith("I"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("more than 16 bits a pixel")
        return Image.fromarray((pixels >> 8).astype(np.uint8))
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB.

    Raises:
        ValueError: pixels of more than 16 bits, or floating-point ones.
    """
    image = _eight_bits(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def from_array(pixels: np.ndarray) -> Image.Image:
    """[H, W] or [H, W, 1 | 3 | 4] uint8 as an RGB image."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return to_rgb(Image.fromarray(pixels))


def decode(file: Path | bytes, name: str) -> Image.Image:
    """Decodes an image file (its first frame) to RGB, upright.

    Args:
        file: its path, or its bytes.
        name: the file's name in the error message.

    Raises:
        UnreadableImage: the file cannot be read to its end as an image.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, "r", _FORMATS) as image:
            return to_rgb(ImageOps.exif_transpose(image))
    except _BROKEN as error:
        raise UnreadableImage(
            None,
            f"{name}: cannot be read as an image",
            "mend or remove it, or give `skip_bad_images`",
        ) from error


def find(paths: Sequence[Path]) -> list[Path]:
    """The image files among files and folders, in order.

    Raises:
        UserError: a path does not exist, or a folder holds no image.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
            if not inside:
                raise UserError(None, f"{path}: no images in there", "give files or another folder")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(None, f"{path}: no such file", "give image files or folders")
    if not found:
        raise UserError(None, "no images given", "name files or folders after the options")
    return found


def resize(image: Image.Image, size: int) -> np.ndarray:
    """An RGB image as [size, size, 3] uint8: bilinear with antialiasing, squeezed to a square."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
