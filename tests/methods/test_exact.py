"""Whole methods on a logistic regression of two weights, against answers found without them.

The network is logits = (w0 x, w1 x), the prior N(0, 1) on both weights. All that can be seen of it
is the log-odds at x = 1, d = w1 - w0, with the prior N(0, 2), so one integral on a grid gives the
posterior of d. A method is asked for d alone, through draw and apply. With h = sum p (1 - p) x^2:

    posterior    p(d) ~ N(d; 0, 2) prod_n sigmoid(+-d x_n)
    Laplace      N(MAP, 2 / (1 + 2 h)), h at the MAP; diagonal: 2 / (1 + h)
    mean field   N(m, 2 s^2), the q of the highest ELBO among independent w0 and w1
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from research.data.dataset import Dataset, Split
from research.method import Batch
from research.models import chain
from research.models.layers import Dense
from research.training import recipe

N = 20
GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=N)
Y = (GENERATOR.uniform(size=N) < expit(1.5 * X)).astype(np.int32)
SIGNED = np.where(Y == 1, X, -X)  # log p(y | x, d) = log sigmoid(d * SIGNED)
MODEL = chain.as_model(chain.Chain((Dense("predictions", 2, use_bias=False),)))
STANDARD_ERRORS = 5.0


class Gaussian(NamedTuple):
    """Mean and variance of d."""

    mean: float
    variance: float


def log_likelihood(d):
    return log_expit(np.multiply.outer(d, SIGNED)).sum(-1)


def posterior() -> tuple[np.ndarray, np.ndarray]:
    """d on a fine grid, and the posterior's weights there."""
    grid = np.linspace(-12, 14, 20001)
    log_density = log_likelihood(grid) - grid**2 / 4
    weights = np.exp(log_density - log_density.max())
    return grid, weights / weights.sum()


def exact() -> Gaussian:
    grid, weights = posterior()
    mean = weights @ grid
    return Gaussian(mean, weights @ (grid - mean) ** 2)


def map_and_curvature() -> tuple[float, float]:
    """The MAP of d, and h there."""
    found = minimize(lambda d: d[0] ** 2 / 4 - log_likelihood(d[0]), [0.0], tol=1e-12)
    p = expit(found.x[0] * X)
    return float(found.x[0]), float(np.sum(p * (1 - p) * X**2))


def mean_field() -> Gaussian:
    """The highest ELBO; by symmetry w0 and w1 have means -m/2 and m/2 and the same variance."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()

    def negative_elbo(theta):
        m, log_s = theta
        d = m + np.sqrt(2) * np.exp(log_s) * nodes
        kl = np.exp(2 * log_s) + m**2 / 4 - 1 - 2 * log_s
        return kl - weights @ log_likelihood(d)

    m, log_s = minimize(negative_elbo, [0.0, 0.0], tol=1e-12).x
    return Gaussian(m, 2 * np.exp(2 * log_s))


def draws_of(name: str, members: int, steps: int, rate: float, start=None) -> np.ndarray:
    """d [members, S] of independent trainings by full batches; the rate falls by a cosine.

    SG-MCMC needs a constant one.
    """
    (parsed,) = recipe.parse(name)
    sampling = parsed.base.name == "sgmcmc"
    schedule = rate if sampling else optax.cosine_decay_schedule(rate, max(steps, 1))
    tx = optax.chain(optax.add_decayed_weights(1 / N), optax.adam(schedule))
    method = recipe.build(parsed, recipe.Context(MODEL, N, steps, 1, tx, schedule))
    images = jnp.asarray(X[:, None], jnp.float32)
    batch = Batch(jnp.tile(images, (method.members, 1)), jnp.tile(jnp.asarray(Y), method.members))
    split = Split(np.asarray(images), Y, np.arange(N).astype(str))
    dataset = Dataset("logistic", ("0", "1"), split, split, split)

    def train(key):
        state = method.init(key, images, start)

        def step(state, number):
            return method.step(jax.random.fold_in(key, number), state, batch)[0], None

        return jax.lax.scan(step, state, jnp.arange(steps))[0]

    def log_odds(state, key):
        def one(index):
            return method.apply(method.draw(key, state, index), jnp.ones((1, 1)))[0]

        log_probs = jax.lax.map(one, jnp.arange(method.num_draws))  # [S, 2]
        return log_probs[:, 1] - log_probs[:, 0]

    train_keys, draw_keys = jax.random.split(jax.random.key(0), (2, members))
    if members > 1:
        run = jax.vmap(lambda train_key, draw_key: log_odds(train(train_key), draw_key))
        return np.asarray(jax.jit(run)(train_keys, draw_keys))
    state = method.finish(train_keys[0], jax.jit(train)(train_keys[0]), dataset)
    return np.asarray(jax.jit(log_odds)(state, draw_keys[0]))[None]


def assert_moments(d: np.ndarray, wanted: Gaussian, bias: float = 0.0):
    """The draws' mean and their mean square about the wanted mean, within standard errors.

    Args:
        d: [independent groups, draws]; the error is that of the groups' means.
        wanted: the moments.
        bias: known, of the variance, relative.
    """
    d = np.asarray(d, np.float64)
    for values, want, slack in (
        (d, wanted.mean, 0.0),
        ((d - wanted.mean) ** 2, wanted.variance, bias * wanted.variance),
    ):
        groups = values.mean(axis=1)
        error = groups.std(ddof=1) / np.sqrt(len(groups))
        assert error < 0.03 * max(abs(want), wanted.variance), "too few draws to tell"
        assert abs(groups.mean() - want) < STANDARD_ERRORS * error + slack


def start_at(d: float):
    return {"predictions": {"kernel": jnp.asarray([[-d / 2, d / 2]], jnp.float32)}}


def test_the_three_answers_differ():
    """Otherwise a method could pass with another's answer."""
    top, _ = map_and_curvature()
    assert mean_field().variance > 1.3 * exact().variance
    assert exact().mean > 1.1 * top


def test_an_ensemble_of_points_with_weight_decay_is_the_map():
    d = draws_of("ensemble(point)", 1, 1000, 0.1)
    np.testing.assert_allclose(d, map_and_curvature()[0], rtol=1e-4)


@pytest.mark.parametrize("estimator", ["shared", "local", "flipout"])
def test_bayes_by_backprop_finds_the_mean_field_optimum(estimator):
    prior = "prior=gaussian, prior_sigma=1.0, prior_relative_to=none, beta=1.0"
    options = f"estimator={estimator}, {prior}, num_samples=50"
    d = draws_of(f"bayes_by_backprop({options})", 128, 3000, 0.02)
    assert_moments(d, mean_field())


def test_ivon_finds_the_mean_field_optimum():
    d = draws_of("ivon(prior_precision=1.0, h0=0.1, beta2=0.999, num_samples=50)", 128, 5000, 0.1)
    assert_moments(d, mean_field())


@pytest.mark.parametrize("structure", ["last_full", "diag"])
def test_laplace_is_the_gaussian_of_the_curvature_at_the_map(structure):
    top, h = map_and_curvature()
    variance = 2 / (1 + (2 if structure == "last_full" else 1) * h)
    options = f"structure={structure}, prior_precision=1.0, num_samples=20000"
    d = draws_of(f"laplace({options})", 1, 0, 0.0, start_at(top))
    assert_moments(d.T, Gaussian(top, variance))


@pytest.mark.parametrize("kernel", ["sgld", "sghmc"])
def test_sgmcmc_samples_the_posterior(kernel):
    rate = 0.1
    options = f"kernel={kernel}, cycles=0, prior_precision=1.0, num_samples=100"
    d = draws_of(f"sgmcmc({options})", 256, 4000, rate, start_at(0.0))
    # A step r on a Gaussian whose U/N has the curvature c widens it to 1 / (1 - r c / 2).
    _, h = map_and_curvature()
    assert_moments(d, exact(), bias=rate * (1 + 2 * h) / N / 2)

    at = [0.5, 2.0]
    probs = expit(np.multiply.outer(d, at)).mean(axis=1)  # [chains, 2]
    grid, weights = posterior()
    error = probs.std(axis=0, ddof=1) / np.sqrt(len(d))
    off = np.abs(probs.mean(axis=0) - weights @ expit(np.multiply.outer(grid, at)))
    assert np.all(off < STANDARD_ERRORS * error)
