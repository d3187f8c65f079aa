"""Convolution that stays fast on tiny maps on a CPU.

XLA's CPU convolution runs at a few GFLOP/s on maps of 3x3 and less, and VGG16 on a 32x32 image ends
in such maps. There the same sum is one matrix product: the patches of every position, times the
kernel.
"""

import jax
import jax.numpy as jnp
from jax import lax

LARGEST_PATCH_MAP = 3  # maps of at most 3x3 go through patches


def _is_plain_3x3(kernel_shape, strides, padding, options) -> bool:
    same = padding == "SAME" or tuple(map(tuple, padding)) == ((1, 1), (1, 1))
    plain = all(
        options.get(name) in (None, 1) or tuple(options[name]) == (1, 1)
        for name in ("lhs_dilation", "rhs_dilation")
    )
    ungrouped = options.get("feature_group_count", 1) == 1
    return kernel_shape[:2] == (3, 3) and tuple(strides) == (1, 1) and same and plain and ungrouped


def patches_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3x3, stride 1, zero-padded convolution as one matrix product.

    Args:
        images: [B, H, W, C].
        kernel: [3, 3, C, F].

    Returns:
        [B, H, W, F], equal to the convolution up to the rounding of the sum's order.
    """
    batch, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(-1, 9 * channels)  # [B*H*W, 9*C]
    return (patches @ kernel.reshape(9 * channels, -1)).reshape(batch, height, width, -1)


def convolve(images, kernel, window_strides, padding, **options) -> jax.Array:
    """`lax.conv_general_dilated` (NHWC, HWIO), by the quicker of two ways. For `nn.Conv`."""
    height, width = images.shape[1:3]
    tiny = max(height, width) <= LARGEST_PATCH_MAP
    if (
        tiny
        and jax.default_backend() == "cpu"
        and _is_plain_3x3(kernel.shape, window_strides, padding, options)
    ):
        return patches_convolution(images, kernel)
    return lax.conv_general_dilated(images, kernel, window_strides, padding, **options)
