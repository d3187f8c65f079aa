"""Test images made worse on purpose, eight ways at five levels, on the device.

Hendrycks & Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions: noise,
blur, contrast, brightness, pixelate and jpeg follow their definitions; rotation and cyclic
translation are the shifts of Ovadia et al. 2019, Can You Trust Your Model's Uncertainty? The levels
are our own, for small images; lengths are given at 32 pixels and grow with the image.

What happens to an image is decided by the key and the image's number in its split, and an image
keeps its noise and its direction from level to level: batches may be cut anywhere, and the levels
can be compared image by image.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct
from scipy.ndimage import gaussian_filter1d

from research.data.batches import padded_batches
from research.data.dataset import Images
from research.runtime.errors import UserError

NUM_LEVELS = 5
SIDE = 32  # pixels, at which lengths are given
LEVELS = {  # of each corruption, from 1 to 5
    "noise": (0.04, 0.08, 0.12, 0.18, 0.26),  # standard deviation; white is 1
    "blur": (0.5, 0.8, 1.1, 1.5, 2.0),  # standard deviation of the Gaussian, pixels
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of the distance from the mean
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value of HSV
    "pixelate": (0.8, 0.65, 0.5, 0.375, 0.25),  # pixels kept along a side
    "jpeg": (80, 50, 25, 15, 7),  # quality
    "rotation": (8, 16, 25, 40, 60),  # degrees, to the left or to the right
    "translation": (1, 2, 3, 5, 7),  # pixels along both axes, around the edge
}
CORRUPTIONS = tuple(LEVELS)
BATCH = 256  # images at a time of a whole split
HIGHEST = jax.lax.Precision.HIGHEST  # an accelerator's short floats would be a loss of their own

# JPEG.
BLOCK = 8
COSINES = np.asarray(dct(np.eye(BLOCK), axis=0, norm="ortho"), np.float32)  # D [frequency, place]
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.full((BLOCK, BLOCK), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
TO_YCBCR = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ],
    np.float32,
)
TO_RGB = np.linalg.inv(TO_YCBCR.astype(np.float64)).astype(np.float32)


def _blur_matrix(deviation: float, side: int) -> np.ndarray:
    """Gaussian smoothing, the image mirrored at its edges, as a matrix [side, side]."""
    scaled = deviation * side / SIDE
    return gaussian_filter1d(np.eye(side), scaled, axis=0, mode="reflect")


def _box_matrix(size: int, side: int) -> np.ndarray:
    """Averages over `size` boxes of equal length [size, side]; pixels are shared by overlap."""
    edges = np.arange(size + 1) * side / size
    left = np.maximum.outer(edges[:-1], np.arange(side))
    right = np.minimum.outer(edges[1:], np.arange(1, side + 1))
    return np.maximum(right - left, 0) * size / side


def _pixelate_matrix(kept: float, side: int) -> np.ndarray:
    """Down to `kept` of the side and back up, by boxes both times: a matrix [side, side]."""
    size = max(1, int(kept * side))
    overlap = _box_matrix(size, side)
    return (overlap.T * side / size) @ overlap


def _by_matrix(key, images, level, matrix: Callable[[float, int], np.ndarray], name: str):
    del key
    rows, columns = (
        jnp.asarray(np.stack([matrix(c, side) for c in LEVELS[name]]), jnp.float32)[level - 1]
        for side in images.shape[1:3]
    )
    return jnp.einsum("yh,bhwc,xw->byxc", rows, images, columns, precision=HIGHEST)


def _at(name: str, level: jax.Array) -> jax.Array:
    return jnp.asarray(LEVELS[name], jnp.float32)[level - 1]


def _noise(keys, images, level):
    normals = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    return images + 255 * _at("noise", level) * normals


def _contrast(keys, images, level):
    del keys
    mean = jnp.mean(images, axis=(1, 2), keepdims=True)  # of each image and channel
    return mean + _at("contrast", level) * (images - mean)


def _brightness(keys, images, level):
    del keys
    value = jnp.max(images, axis=-1, keepdims=True)  # of hue, saturation and value
    raised = jnp.minimum(value + 255 * _at("brightness", level), 255)
    return jnp.where(value > 0, images * raised / jnp.maximum(value, 1), raised)


def quantisation_tables(quality: int) -> np.ndarray:
    """The tables of Y, Cb and Cr at a quality from 1 to 100: [3, 8, 8] float32, 1 to 255.

    They are those of annex K of ITU-T T.81, scaled by the quality as libjpeg does.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.stack([LUMINANCE, CHROMINANCE, CHROMINANCE])
    return np.clip((tables * scale + 50) // 100, 1, 255).astype(np.float32)


def lose_as_jpeg(images: jax.Array, tables: jax.Array) -> jax.Array:
    """Images as they come back from a JPEG file; no file is written.

    ITU-T T.81 (1992), the baseline: RGB to YCbCr (JFIF), 8x8 blocks X less 128, F = D X Dᵀ with the
    orthonormal cosine transform D, F rounded to multiples of a table Q, and all the way back.
    Colour is kept at full resolution (4:4:4). What comes after the rounding (Huffman codes) loses
    nothing and is left out.

    Args:
        images: [B, H, W, 3] float32, whole numbers from 0 to 255.
        tables: [3, 8, 8] from `quantisation_tables`.

    Returns:
        [B, H, W, 3] float32, not rounded, and not clipped to 0 to 255.
    """
    batch, height, width, _ = images.shape
    down, right = -height % BLOCK, -width % BLOCK
    x = jnp.pad(images, ((0, 0), (0, down), (0, right), (0, 0)), mode="edge")
    x = jnp.round(jnp.einsum("bhwr,yr->byhw", x, TO_YCBCR, precision=HIGHEST))
    x = x - jnp.array([128.0, 0.0, 0.0])[None, :, None, None]  # Cb and Cr are centred already
    shape = x.shape
    x = x.reshape(batch, 3, shape[2] // BLOCK, BLOCK, shape[3] // BLOCK, BLOCK)
    x = jnp.einsum("bchiwj,ui,vj->bchwuv", x, COSINES, COSINES, precision=HIGHEST)
    steps = tables[None, :, None, None]  # [1, 3, 1, 1, 8, 8]
    x = jnp.round(x / steps) * steps
    x = jnp.einsum("bchwuv,ui,vj->bchiwj", x, COSINES, COSINES, precision=HIGHEST)
    x = jnp.round(x.reshape(shape)) + jnp.array([128.0, 0.0, 0.0])[None, :, None, None]
    x = jnp.einsum("byhw,ry->bhwr", x, TO_RGB, precision=HIGHEST)
    return x[:, :height, :width]


def _jpeg(keys, images, level):
    del keys
    tables = np.stack([quantisation_tables(quality) for quality in LEVELS["jpeg"]])
    return lose_as_jpeg(images, jnp.asarray(tables)[level - 1])


def rotate(image: jax.Array, degrees: jax.Array) -> jax.Array:
    """Turns an image [H, W, 3] about its centre, to the left, by bilinear interpolation.

    What comes in from outside repeats the nearest edge: corners of one colour would be a corruption
    of their own.
    """
    height, width, _ = image.shape
    radians = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(radians), jnp.sin(radians)
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None] - (width - 1) / 2
    from_y = cosine * y + sine * x + (height - 1) / 2
    from_x = cosine * x - sine * y + (width - 1) / 2

    def turn(channel):
        return jax.scipy.ndimage.map_coordinates(channel, [from_y, from_x], 1, mode="nearest")

    return jax.vmap(turn, in_axes=2, out_axes=2)(image)


def _rotation(keys, images, level):
    signs = jax.vmap(lambda key: jax.random.rademacher(key, ()))(keys)
    return jax.vmap(rotate)(images, signs * _at("rotation", level))


def _translation(keys, images, level):
    signs = jax.vmap(lambda key: jax.random.rademacher(key, (2,)))(keys)  # [B, 2]
    sides = jnp.array(images.shape[1:3], jnp.float32) / SIDE
    pixels = jnp.round(_at("translation", level) * sides).astype(jnp.int32)
    return jax.vmap(partial(jnp.roll, axis=(0, 1)))(images, signs * pixels[None])


_FUNCTIONS = {
    "noise": _noise,
    "blur": partial(_by_matrix, matrix=_blur_matrix, name="blur"),
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": partial(_by_matrix, matrix=_pixelate_matrix, name="pixelate"),
    "jpeg": _jpeg,
    "rotation": _rotation,
    "translation": _translation,
}


@partial(jax.jit, static_argnames="name")
def _corrupt(key, images, first, level, name):
    numbers = first + jnp.arange(len(images))
    keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
    worse = _FUNCTIONS[name](keys, images.astype(jnp.float32), level)
    return jnp.clip(jnp.round(worse), 0, 255).astype(jnp.uint8)


def corrupt(key: jax.Array, images: jax.Array, name: str, level: int, first: int = 0) -> jax.Array:
    """Makes images worse. One program serves all levels.

    Args:
        key: random key of noise and directions.
        images: [B, H, W, 3] uint8.
        name: one of `CORRUPTIONS`.
        level: 1 (slight) to 5; 0 leaves them as they are.
        first: the number of the first image in its split.

    Returns:
        [B, H, W, 3] uint8.

    Raises:
        UserError: no such corruption or level.
    """
    if name not in CORRUPTIONS:
        way_out = f"choose from {', '.join(CORRUPTIONS)}"
        raise UserError(None, f"corruption {name}: unknown", way_out)
    if level not in range(NUM_LEVELS + 1):
        raise UserError(None, f"corruption level {level}: give 0 to {NUM_LEVELS}")
    return _corrupt(key, images, first, level, name) if level else jnp.asarray(images)


def corrupt_all(key: jax.Array, images: Images, name: str, level: int) -> np.ndarray:
    """The same of a whole split [N, H, W, 3], batch by batch, onto the host."""
    parts = [
        np.asarray(corrupt(key, jnp.asarray(batch), name, level, number * BATCH))
        for number, (batch, _) in enumerate(padded_batches(images, BATCH))
    ]
    return np.concatenate(parts)[: len(images)]
