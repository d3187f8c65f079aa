"""What a network's outputs mean, against SciPy."""

import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax
from scipy.stats import norm

from research.method import CATEGORICAL, gaussian


def test_gaussian_is_the_density():
    outputs, labels = np.array([[0.5], [-1.0], [2.0]]), np.array([0.0, -1.5, 2.0])
    told = gaussian(0.3).metrics(jnp.asarray(outputs), jnp.asarray(labels))
    expected = -norm.logpdf(labels, outputs[:, 0], 0.3).mean()
    np.testing.assert_allclose(told["nll"], expected, rtol=1e-5)
    np.testing.assert_allclose(told["error"], np.mean((labels - outputs[:, 0]) ** 2), rtol=1e-6)
    np.testing.assert_array_equal(gaussian(0.3).predictive(outputs), outputs)


def test_categorical_is_the_softmax():
    logits, labels = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    told = CATEGORICAL.metrics(jnp.asarray(logits), jnp.asarray(labels))
    expected = -log_softmax(logits, axis=1)[np.arange(5), labels].mean()
    np.testing.assert_allclose(told["nll"], expected, rtol=1e-5)
    np.testing.assert_allclose(told["accuracy"], np.mean(logits.argmax(axis=1) == labels))
