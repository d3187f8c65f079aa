"""Flips and crops move pixels and invent none but the zeros of the padding."""

import jax
import jax.numpy as jnp
import numpy as np

from research.data.augment import augment

KEY = jax.random.key(0)


def run(images, flip, crop, key=KEY):
    result = jax.jit(augment, static_argnums=(2, 3))(key, images, flip, crop)
    assert result.shape == images.shape
    assert result.dtype == jnp.uint8
    return np.asarray(result)


def test_nothing(noise):
    np.testing.assert_array_equal(run(noise(5), False, 0), noise(5))


def test_flip_mirrors_half_of_the_images(noise):
    images = noise(400)
    result = run(images, True, 0)
    same = (result == images).all((1, 2, 3))
    mirrored = (result == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(400)


def test_crop_is_a_window_of_the_padded_image(noise):
    crop, images = 2, noise(500, size=6)
    padded = np.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
    corners = [(y, x) for y in range(5) for x in range(5)]
    windows = np.stack([padded[:, y : y + 6, x : x + 6] for y, x in corners])  # [25, 500, ...]
    matches = (windows == run(images, False, crop)).all((2, 3, 4))
    np.testing.assert_array_equal(matches.sum(0), 1)
    # All 25 corners are equally likely: within five deviations of a binomial.
    share = matches.mean(1)
    assert np.abs(share - 0.04).max() < 5 * np.sqrt(0.04 * 0.96 / 500)


def test_the_key_decides(noise):
    images = noise(20)
    np.testing.assert_array_equal(run(images, True, 2), run(images, True, 2))
    assert (run(images, True, 2) != run(images, True, 2, jax.random.key(1))).any()
