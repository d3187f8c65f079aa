"""Whole methods on a linear regression with known noise, against the posterior in closed form.

y = w1 x1 + w2 x2 + e with e ~ N(0, S^2), the prior N(0, 1) on both weights, and correlated inputs:

    precision    P = I + X'X / S^2
    posterior    N(m, P^-1), m = P^-1 X'y / S^2
    mean field   N(m, diag(1 / P_ii)): the true mean, and variances that are too small
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.method import Batch, gaussian
from research.models import chain
from research.models.layers import Dense
from research.training import recipe

N, NOISE = 20, 1.0
GENERATOR = np.random.default_rng(1)
X = GENERATOR.normal(size=(N, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
Y = X @ [1.5, -1.0] + NOISE * GENERATOR.normal(size=N)
PRECISION = np.eye(2) + X.T @ X / NOISE**2
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ X.T @ Y / NOISE**2
MODEL = chain.as_model(chain.Chain((Dense("value", 1, use_bias=False),)))
MODEL = MODEL._replace(likelihood=gaussian(NOISE))
STANDARD_ERRORS = 5.0


def draws_of(name: str, groups: int, steps: int, rate: float) -> np.ndarray:
    """Weights [groups, S, 2] that independent trainings draw, read off through `apply`."""
    (parsed,) = recipe.parse(name)
    sampling = parsed.base.name == "sgmcmc"
    schedule = rate if sampling else optax.cosine_decay_schedule(rate, steps)
    tx = optax.chain(optax.add_decayed_weights(1 / N), optax.adam(schedule))
    method = recipe.build(parsed, recipe.Context(MODEL, N, steps, 1, tx, schedule))
    batch = Batch(jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32))

    def run(key):
        train_key, draw_key = jax.random.split(key)

        def step(state, number):
            return method.step(jax.random.fold_in(train_key, number), state, batch)[0], None

        state = jax.lax.scan(step, method.init(key, batch.images), jnp.arange(steps))[0]

        def one(index):
            return method.apply(method.draw(draw_key, state, index), jnp.eye(2))[:, 0]

        return jax.lax.map(one, jnp.arange(method.num_draws))

    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), groups)))


def assert_near(values: np.ndarray, wanted, slack: float = 0.0):
    """The mean over groups [groups, ...] is the wanted one, within standard errors.

    These must be small against the posterior's spread, or the tests would show nothing.
    """
    values = np.asarray(values, np.float64)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    scale = max(np.max(COVARIANCE), np.max(np.abs(wanted)))
    assert np.all(error < 0.1 * scale), "too few draws to tell"
    assert np.all(np.abs(values.mean(axis=0) - wanted) < STANDARD_ERRORS * error + slack)


def covariances(w: np.ndarray) -> np.ndarray:
    """About the exact mean: [groups, 2, 2] of draws [groups, S, 2]."""
    return np.einsum("gsi,gsj->gij", w - MEAN, w - MEAN) / w.shape[1]


def test_the_answers_differ():
    """Otherwise a method could pass with another's."""
    assert np.all(np.diag(COVARIANCE) > 1.5 / np.diag(PRECISION))


def test_point_with_weight_decay_is_the_posterior_mean():
    w = draws_of("point", 1, 2000, 0.05)
    np.testing.assert_allclose(w[0, 0], MEAN, atol=1e-4)


@pytest.mark.parametrize("estimator", ["shared", "local", "flipout"])
def test_bayes_by_backprop_finds_the_mean_field_optimum(estimator):
    prior = "prior=gaussian, prior_sigma=1.0, prior_relative_to=none"
    w = draws_of(
        f"bayes_by_backprop(estimator={estimator}, {prior}, num_samples=50)", 64, 3000, 0.03
    )
    assert_near(w.mean(axis=1), MEAN)
    assert_near(covariances(w), np.diag(1 / np.diag(PRECISION)))


def test_ivon_finds_the_mean_field_optimum():
    options = "prior_precision=1.0, h0=0.1, beta2=0.999, num_samples=50"
    w = draws_of(f"ivon({options})", 64, 5000, 0.1)
    assert_near(w.mean(axis=1), MEAN)
    assert_near(covariances(w), np.diag(1 / np.diag(PRECISION)))


@pytest.mark.parametrize("kernel", ["sgld", "sghmc"])
def test_sgmcmc_samples_the_posterior_and_its_predictive(kernel):
    rate = 0.05
    options = f"kernel={kernel}, cycles=0, prior_precision=1.0, num_samples=100"
    w = draws_of(f"sgmcmc({options})", 256, 4000, rate)
    assert_near(w.mean(axis=1), MEAN)
    # A step r on a Gaussian whose U/N has the curvature c widens it to 1 / (1 - r c / 2).
    steepest = np.linalg.eigvalsh(PRECISION)[-1] / N
    bias = rate * steepest / 2
    assert_near(covariances(w), COVARIANCE, slack=bias * np.max(COVARIANCE))
    at = np.array([2.0, -1.0])
    spread = np.mean(((w - MEAN) @ at) ** 2, axis=1)
    wanted = at @ COVARIANCE @ at
    assert_near(spread, wanted, slack=bias * wanted)
