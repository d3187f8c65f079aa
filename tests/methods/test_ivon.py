"""IVON: its step against the paper's formula, and the mean-field optimum it must come to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.method import Batch, Model
from research.methods.ivon import (
    Constants,
    IvonState,
    draw_weights,
    initial_hessian,
    ivon,
    sigma,
    update,
)
from research.runtime.errors import UserError

BATCH = Batch(jnp.zeros((4, 1)), jnp.arange(4) % 2)


def _flat_model(start):
    """Weights that the likelihood says nothing about."""
    return Model(
        lambda key, images: {"w": start},
        lambda params, images, key=None: jnp.zeros((len(images), 2)),
    )


def _arrays(seed, count, size=6):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_one_step_is_that_of_the_paper():
    n, d, b1, b2, h0, rate = 80, 0.05, 0.9, 0.98, 0.3, 0.1
    mean, g, momentum, z = _arrays(0, 4)
    h = np.abs(_arrays(1, 1)[0])
    state = IvonState(mean, h, momentum, jnp.int32(4))
    new = update(state, g, z, rate, Constants(n, d, b1, b2, h0))

    sd = 1 / np.sqrt(n * (h + d))
    np.testing.assert_allclose(draw_weights(z, state, n, d), mean + sd * z, rtol=1e-5)
    estimate = g * (sd * z) / sd**2
    new_momentum = b1 * momentum + (1 - b1) * g
    new_h = b2 * h + (1 - b2) * estimate + 0.5 * (1 - b2) ** 2 * (h - estimate) ** 2 / (h + d)
    corrected = new_momentum / (1 - b1**5)
    new_mean = mean - rate * (h0 + d) * (corrected + d * mean) / (new_h + d)
    np.testing.assert_allclose(new.momentum, new_momentum, rtol=1e-5)
    np.testing.assert_allclose(new.hessian, new_h, rtol=1e-4)
    np.testing.assert_allclose(new.mean, new_mean, rtol=1e-4)
    assert int(new.step) == 5


def test_the_first_step_is_that_of_gradient_descent():
    mean, g, z = _arrays(2, 3)
    state = IvonState(mean, jnp.full(6, 0.4), jnp.zeros(6), jnp.int32(0))
    new = update(state, g, z, 0.1, Constants(50, 0.02, 0.9, 1 - 1e-7, 0.4))
    np.testing.assert_allclose(new.mean, mean - 0.1 * (g + 0.02 * mean), rtol=1e-3)


def test_the_variance_stays_positive_whatever_the_gradient():
    state = IvonState(jnp.zeros(6), jnp.full(6, 0.1), jnp.zeros(6), jnp.int32(0))
    for size in (1e-3, 1.0, 1e3):
        for seed in range(5):
            g, z = _arrays(seed, 2)
            new = update(state, size * g, z, 0.1, Constants(1000, 0.01, 0.9, 0.9, 0.1))
            assert np.all(new.hessian + 0.01 >= 0.5 * 0.11 * (1 - 1e-5))


def test_linear_regression_comes_to_the_mean_field_optimum():
    """Known noise: the best Gaussian without correlations has the exact mean, precision diag."""
    generator = np.random.default_rng(0)
    n, precision, noise, replicas, steps = 40, 5.0, 0.7, 400, 5000
    design = generator.normal(size=(n, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0.3], [0, 0, 0.5]])
    target = design @ np.array([1.0, -0.5, 2.0]) + noise * generator.normal(size=n)
    curvature = design.T @ design / n / noise**2  # of the mean NLL
    slope = design.T @ target / n / noise**2
    full = n * curvature + precision * np.eye(3)
    exact_mean, exact_precision = np.linalg.solve(full, n * slope), np.diag(full)

    d, beta2, h0 = precision / n, 0.998, 1.0
    curvature, slope = jnp.float32(curvature), jnp.float32(slope)
    zeros = jnp.zeros((replicas, 3))
    state = IvonState(zeros, zeros + h0, zeros, jnp.int32(0))

    def body(state, key):
        z = jax.random.normal(key, zeros.shape)
        weights = draw_weights(z, state, n, d)
        g = weights @ curvature - slope[None]
        rate = 0.1 * 0.5 * (1 + jnp.cos(jnp.pi * state.step / steps))
        return update(state, g, z, rate, Constants(n, d, 0.9, beta2, h0)), None

    state, _ = jax.lax.scan(body, state, jax.random.split(jax.random.key(0), steps))
    mean = np.asarray(state.mean, np.float64)
    error = mean.std(0) / np.sqrt(replicas)
    np.testing.assert_array_less(np.abs(mean.mean(0) - exact_mean), 5 * error)
    assert np.all(error < 0.01 / np.sqrt(exact_precision)), "the bound is too loose to say much"

    found = n * (np.asarray(state.hessian, np.float64) + d)  # [R, 3]
    error = found.std(0) / np.sqrt(replicas)
    # The squared term that keeps h positive lifts it by (1 - b2) Var(h^) / (2 (h + d)); what is
    # left of the start is b2^steps.
    sd = 1 / np.sqrt(exact_precision)
    moved = np.square(np.asarray(curvature) * sd[None] / sd[:, None])
    estimate = moved.sum(1) + np.diag(moved) + np.square(d * exact_mean / sd)
    lift = n * (1 - beta2) * estimate / (2 * exact_precision / n)
    lift += beta2**steps * np.abs(n * (h0 + d) - exact_precision)
    np.testing.assert_array_less(np.abs(found.mean(0) - exact_precision), 5 * error + lift)
    assert np.all(5 * error + lift < 0.02 * exact_precision)


@pytest.mark.parametrize("num_train", [10, 1000])
def test_without_data_it_comes_to_the_prior_whatever_n(num_train):
    precision, size = 4.0, 5000
    method = ivon(
        _flat_model(jnp.ones(size)),
        lambda step: num_train / precision * 0.05 * step**0,
        num_train,
        num_steps=400,
        prior_precision=precision,
        h0=2 * precision / num_train,
        beta2=0.95,
        num_samples=2,
    )
    state = method.init(jax.random.key(0), BATCH.images)

    def body(state, key):
        return method.step(key, state, BATCH)[0], None

    state, _ = jax.lax.scan(body, state, jax.random.split(jax.random.key(1), 400))
    np.testing.assert_allclose(state.mean["w"], 0.0, atol=1e-4)
    sd = np.asarray(sigma(state.hessian["w"], num_train, precision / num_train))
    np.testing.assert_allclose(sd, precision**-0.5, rtol=1e-4)
    drawn = np.asarray(method.draw(jax.random.key(3), state, 1)["w"], np.float64)
    assert abs(drawn.var() * precision - 1) < 5 * np.sqrt(2 / size)
    other = np.asarray(method.draw(jax.random.key(3), state, 0)["w"], np.float64)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 5 / np.sqrt(size)


@pytest.mark.parametrize("num_train", [50, 5000])
def test_sigma_begins_by_fan_in_whatever_n(num_train):
    params = {"kernel": jnp.zeros((3, 3, 8, 16)), "bias": jnp.zeros(16)}
    first = initial_hessian(params, num_train, None)
    he = np.sqrt(2 / (3 * 3 * 8))
    assert float(sigma(first["kernel"], num_train, 0.0)) == pytest.approx(0.05 * he)
    assert float(sigma(first["bias"], num_train, 0.0)) == pytest.approx(0.05 * 0.1)
    assert initial_hessian(params, num_train, 0.5) == {"kernel": 0.5, "bias": 0.5}


def test_summary_is_the_median_of_sigma_over_the_size_of_the_mean():
    mean = jnp.array([0.5, -1.0, 2.0])
    method = ivon(_flat_model(mean), 0.1, num_train=16, num_steps=10, prior_precision=8.0, h0=0.5)
    state = method.init(jax.random.key(0), BATCH.images)
    assert float(method.summary(state)["sigma_over_mu"]) == pytest.approx(0.25)


def test_the_default_memory_is_the_papers_at_the_papers_length():
    """2/num_steps is 1e-5 at 200,000 steps, and a short run forgets h0 as far as a long one."""
    for num_steps in (50, 400):
        model = _flat_model(jnp.ones(3))
        options = {"num_train": 10, "num_steps": num_steps, "prior_precision": 0.01}
        method = ivon(model, 0.0, **options, h0=0.5)
        state = method.init(jax.random.key(0), BATCH.images)

        def body(state, key, method=method):
            return method.step(key, state, BATCH)[0], None

        keys = jax.random.split(jax.random.key(1), num_steps)
        state, _ = jax.lax.scan(body, state, keys)
        np.testing.assert_allclose(state.hessian["w"], 0.5 * np.exp(-2), rtol=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"h0": 0},
        {"prior_precision": -1},
        {"beta1": 1.0},
        {"beta2": "long"},
        {"num_samples": 0},
    ],
)
def test_options_out_of_range_are_errors(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"^ivon\({name}={value}\): [^\n]+$"):
        ivon(_flat_model(jnp.ones(3)), 0.1, 10, 10, **options)
