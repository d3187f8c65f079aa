"""Closed approximations of E[softmax(z)] against numerical integration and hand-worked cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from research.posteriors import gaussian_softmax

probit, bridge = jax.jit(gaussian_softmax.probit), jax.jit(gaussian_softmax.bridge)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(201)


def _integral(mean, variance):
    """E[sigmoid(z)], z ~ N(mean, variance), by Gauss-Hermite quadrature."""
    return float(np.sum(WEIGHTS * expit(mean + np.sqrt(variance) * NODES)) / WEIGHTS.sum())


@pytest.mark.parametrize("variance", [0.0, 0.3, 3.0, 30.0])
def test_probit_of_two_classes_is_close_to_the_integral(variance):
    """MacKay's approximation is known to stay within 0.02 of the integral."""
    means = np.linspace(-6, 6, 13)
    mean = jnp.asarray(np.column_stack([np.zeros(13), means]))
    covariance = jnp.broadcast_to(jnp.array([[0.0, 0.0], [0.0, variance]]), (13, 2, 2))
    found = np.exp(probit(mean, covariance))[:, 1]
    np.testing.assert_allclose(found, expit(means / np.sqrt(1 + np.pi / 8 * variance)), rtol=1e-5)
    assert np.abs(found - [_integral(m, variance) for m in means]).max() < 0.02


@pytest.mark.parametrize("approximation", [probit, bridge], ids=["probit", "bridge"])
def test_only_differences_of_logits_count(approximation):
    """z and z + c(1, ..., 1) for any Gaussian c, correlated or not, are the same prediction."""
    generator = np.random.default_rng(0)
    mean, root = generator.normal(size=(4, 3)), generator.normal(size=(4, 3, 3))
    # z = m + root e; z' = z + 1 (u e) for a random u: another covariance, the same differences.
    shifted = root + generator.normal(size=(4, 1, 3))
    first, second = (
        approximation(jnp.asarray(m), jnp.asarray(r @ r.transpose(0, 2, 1)))
        for m, r in ((mean, root), (mean + 2.0, shifted))
    )
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("approximation", [probit, bridge], ids=["probit", "bridge"])
def test_without_variance_both_are_the_softmax_and_sure_logits_stay_finite(approximation):
    mean = jnp.array([[0.0, 1.0, -2.0], [200.0, -200.0, 0.0]])
    found = approximation(mean, jnp.zeros((2, 3, 3)))
    np.testing.assert_allclose(found, jax.nn.log_softmax(mean), atol=1e-4)
    assert np.isfinite(approximation(mean, 100.0 * jnp.broadcast_to(jnp.eye(3), (2, 3, 3)))).all()


@pytest.mark.parametrize("approximation", [probit, bridge], ids=["probit", "bridge"])
def test_more_variance_is_less_sure(approximation):
    mean = jnp.array([[3.0, 0.0, -1.0]])
    surest = [
        float(jnp.max(approximation(mean, v * jnp.eye(3)[None]))) for v in (0.0, 3.0, 30.0, 300.0)
    ]
    assert surest == sorted(surest, reverse=True)
    assert np.exp(surest[-1]) < 0.6


def test_bridge_is_the_mean_of_the_papers_dirichlet():
    """K = 3, variances below the correction's threshold, centred by hand."""
    mean = np.array([1.0, 0.0, -1.0])  # centred already
    variances = np.array([0.4, 0.2, 0.1])
    # Var(z_k - mean z) of independent logits: s_k (1 - 2/3) + (sum s) / 9
    centred = variances / 3 + variances.sum() / 9
    alpha = (1 - 2 / 3 + np.exp(mean) / 9 * np.exp(-mean).sum()) / centred
    found = np.exp(bridge(jnp.asarray(mean)[None], jnp.asarray(np.diag(variances))[None]))[0]
    np.testing.assert_allclose(found, alpha / alpha.sum(), rtol=1e-5)


def test_one_unit_is_the_second_of_two_logits():
    np.testing.assert_array_equal(gaussian_softmax.two_logits(jnp.array([[3.0]])), [[0.0, 3.0]])
    np.testing.assert_array_equal(
        gaussian_softmax.two_logits(jnp.array([[[4.0]]])), [[[0.0, 0.0], [0.0, 4.0]]]
    )
    np.testing.assert_array_equal(
        gaussian_softmax.two_logits(jnp.array([[1.0, 2.0]])), [[1.0, 2.0]]
    )
