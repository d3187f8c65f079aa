"""What a JPEG file loses, on the device: no file is written.

ITU-T T.81 (1992), the baseline: RGB to YCbCr (JFIF), 8x8 blocks X less 128, F = D X Dᵀ with the
orthonormal cosine transform D, F rounded to multiples of a table Q, and all the way back. Colour is
kept at full resolution (4:4:4). The tables are those of annex K, scaled by a quality from 1 to 100
as libjpeg does. What comes after the rounding (Huffman codes) loses nothing and is left out.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dct

BLOCK = 8
COSINES = dct(np.eye(BLOCK), axis=0, norm="ortho").astype(np.float32)  # D [frequency, place]
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
HIGHEST = jax.lax.Precision.HIGHEST  # an accelerator's short floats would be a loss of their own


def quantisation_tables(quality: int) -> np.ndarray:
    """The tables of Y, Cb and Cr at a quality: [3, 8, 8] float32, whole numbers from 1 to 255."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.stack([LUMINANCE, CHROMINANCE, CHROMINANCE])
    return np.clip((tables * scale + 50) // 100, 1, 255).astype(np.float32)


def lose_as_jpeg(images: jax.Array, tables: jax.Array) -> jax.Array:
    """Images as they come back from a JPEG file.

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
