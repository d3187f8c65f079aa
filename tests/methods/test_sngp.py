"""SNGP: layers that stretch nothing too far, a kernel approximated, an exact Laplace posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.dataset import Dataset, Split
from research.errors import UserError
from research.method import Batch, predict
from research.methods.sngp import Head, random_features, sngp, spectral_normalise
from research.models import chain

FEATURES, CLASSES = 24, 3


def _norm(kernel):
    return np.linalg.norm(np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]), 2)


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 4, 6)])
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_spectral_norm_after_normalisation_is_at_most_the_bound(shape, scale):
    generator = np.random.default_rng(0)
    kernel = jnp.asarray(scale * generator.normal(size=shape), jnp.float32)
    vector = jnp.ones(shape[-1])
    normalised, bound = kernel, 0.9
    for _ in range(60):
        normalised, vector = spectral_normalise(normalised, vector, bound)
    if _norm(kernel) <= bound:
        np.testing.assert_array_equal(normalised, kernel)
    else:
        np.testing.assert_allclose(_norm(normalised), bound, rtol=1e-3)
        np.testing.assert_allclose(normalised * _norm(kernel) / bound, kernel, rtol=2e-3)


def test_a_kernel_of_zeros_stays():
    normalised, vector = spectral_normalise(jnp.zeros((3, 2)), jnp.ones(2), 1.0)
    np.testing.assert_array_equal(normalised, 0.0)
    # When the kernel is no longer zero, the vector must be able to grow again.
    assert np.isfinite(vector).all()
    _, vector = spectral_normalise(jnp.eye(3)[:, :2], vector, 1.0)
    assert np.linalg.norm(vector) > 0.5


@pytest.mark.parametrize("length_scale", [0.7, 2.0])
def test_random_features_approximate_the_rbf_kernel(length_scale):
    """cos features are bounded by amplitude^2 2/D each: Hoeffding's bound at 5 deviations."""
    count, inputs, amplitude = 4000, 5, 1.5
    keys = jax.random.split(jax.random.key(0), 3)
    head = Head(
        jax.random.normal(keys[0], (inputs, count)) / length_scale,
        jax.random.uniform(keys[1], (count,), maxval=2 * np.pi),
        None,
    )
    hidden = jax.random.normal(keys[2], (6, inputs))
    features = np.asarray(random_features(hidden, head, amplitude), np.float64)
    points = np.asarray(hidden, np.float64)
    squares = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    kernel = amplitude**2 * np.exp(-squares / (2 * length_scale**2))
    # Each of the D terms lies in +-2 amplitude^2, so their mean has a deviation of at most this.
    assert np.abs(features @ features.T - kernel).max() < 5 * 2 * amplitude**2 / np.sqrt(count)
