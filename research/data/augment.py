"""Random flips and crops, on the device, on the bytes.

The CIFAR convention (Lee et al., Deeply-Supervised Nets, 2015; He et al., 2016): pad each side with
zeros, cut the original size out at random, mirror half of the images.
"""

import jax
import jax.numpy as jnp


def augment(key: jax.Array, images: jax.Array, flip: bool, crop: int) -> jax.Array:
    """Mirrors and shifts each image at random.

    Args:
        key: random key; it decides what happens to each image.
        images: [B, H, W, C] uint8.
        flip: mirror left and right with probability 1/2.
        crop: pixels of zero padding on every side before the crop; an image moves by at most as
        many. 0: none.

    Returns:
        [B, H, W, C] uint8.
    """
    flip_key, crop_key = jax.random.split(key)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if crop:
        padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
        corners = jax.random.randint(crop_key, (len(images), 2), 0, 2 * crop + 1)

        def cut_out(image, corner):
            return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

        images = jax.vmap(cut_out)(padded, corners)
    return images
