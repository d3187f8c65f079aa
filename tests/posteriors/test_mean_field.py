"""The mean-field Gaussian: its density, its start, its summaries, pruning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from research.posteriors import mean_field, priors
from research.posteriors.mean_field import MeanField
from research.posteriors.objective import negative_elbo


@pytest.fixture(scope="module")
def weights():
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "a/bias": jnp.zeros(50),
        "a/kernel": jax.random.normal(keys[0], (4, 50)),
        "b/kernel": jax.random.normal(keys[1], (3, 3, 100, 2)) / 30,
    }


def test_pitfall_15_sigma_of_any_rho_is_finite_and_inverts():
    rho = np.array([-np.inf, -80.0, -7.0, 0.0, 1000.0], np.float32)
    sigma = mean_field.sigma(MeanField({"w": rho}, {"w": jnp.asarray(rho)}))["w"]
    np.testing.assert_allclose(
        sigma, np.logaddexp(0, rho.astype(np.float64)), rtol=1e-5, atol=1e-37
    )
    np.testing.assert_allclose(mean_field.softplus_inverse(sigma), rho, rtol=1e-5, atol=1e-6)


def test_pitfall_15_initial_sigma_follows_the_fan_in(weights):
    sigma = mean_field.sigma(mean_field.around(weights, 0.5, "fan_in"))
    np.testing.assert_allclose(sigma["a/kernel"], np.full((4, 50), 0.5 / 2), rtol=1e-5)
    np.testing.assert_allclose(sigma["a/bias"], np.full(50, 0.5 / 2), rtol=1e-5)
    np.testing.assert_allclose(sigma["b/kernel"], np.full((3, 3, 100, 2), 0.5 / 30), rtol=1e-5)
    absolute = mean_field.sigma(mean_field.around(weights, 0.5, "none"))["b/kernel"]
    np.testing.assert_allclose(absolute, np.full((3, 3, 100, 2), 0.5), rtol=1e-5)


def test_pitfall_11_weights_of_zero_get_a_sigma_relative_to_weights(weights):
    sigma = mean_field.sigma(mean_field.around(weights, 0.5, "weight"))
    floor = 0.1 / 2
    expected = 0.5 * np.maximum(np.abs(weights["a/kernel"]), floor)
    np.testing.assert_allclose(sigma["a/kernel"], expected, rtol=1e-5)
    np.testing.assert_allclose(sigma["a/bias"], np.full(50, 0.5 * floor), rtol=1e-5)


def test_draws_have_the_moments(weights):
    posterior = mean_field.around(weights, 0.3, "fan_in")
    draw = mean_field.sample(jax.random.key(1), posterior)
    sigma = mean_field.sigma(posterior)
    z = np.concatenate([np.ravel((draw[p] - weights[p]) / sigma[p]) for p in weights])
    assert stats.kstest(z, "norm").pvalue > 1e-3
    # Tensors have noise of their own: no two of them share a stream.
    assert abs(np.corrcoef(z[:50], z[50:100])[0, 1]) < 5 / np.sqrt(50)


def test_pitfall_09_and_28_log_prob_is_that_of_the_sigma_that_sampled(weights):
    posterior = mean_field.around(weights, 0.001, "fan_in")  # densities far above 1
    draw = mean_field.sample(jax.random.key(1), posterior)
    sigma = mean_field.sigma(posterior)
    exact = sum(
        stats.norm.logpdf(np.float64(draw[p]), np.float64(weights[p]), np.float64(sigma[p])).sum()
        for p in weights
    )
    np.testing.assert_allclose(jax.jit(mean_field.log_prob)(posterior, draw), exact, rtol=1e-4)


def test_pitfall_27_pruned_weights_are_certainly_zero(weights):
    posterior = mean_field.around(weights, 0.3, "fan_in")
    pruned = mean_field.prune(posterior, 0.75)
    draw = mean_field.sample(jax.random.key(1), pruned)
    ratios = mean_field.signal_to_noise(posterior)
    zeros = [np.ravel(draw[p] == 0) for p in draw]
    zeros, ratios = np.concatenate(zeros), np.concatenate([np.ravel(ratios[p]) for p in draw])
    assert zeros.sum() == round(0.75 * zeros.size)
    assert ratios[zeros].max() <= ratios[~zeros].min()
    sigma = mean_field.sigma(pruned)
    assert np.mean(np.concatenate([np.ravel(s) for s in sigma.values()]) == 0) == np.mean(zeros)
    assert float(jnp.min(mean_field.signal_to_noise(pruned)["a/kernel"])) == 0
    everything = mean_field.sample(jax.random.key(1), mean_field.prune(posterior, 1.0))
    assert all(float(jnp.max(jnp.abs(leaf))) == 0 for leaf in everything.values())
    kept = mean_field.sample(jax.random.key(1), mean_field.prune(posterior, 0.0))
    np.testing.assert_array_equal(
        kept["a/kernel"], mean_field.sample(jax.random.key(1), posterior)["a/kernel"]
    )


def test_linear_regression_has_the_mean_field_optimum():
    """Known noise and prior: the exact mean, and variances 1 / diag(precision)."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0.6], [0, 0, 1.0]])
    noise, prior = 0.5, 2.0
    y = x @ np.array([1.0, -1.0, 0.5]) + noise * generator.normal(size=20)
    precision = x.T @ x / noise**2 + np.eye(3) / prior**2
    exact = np.linalg.solve(precision, x.T @ y / noise**2)
    inputs, targets = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    p = priors.gaussian({"kernel": jnp.full(3, prior)})
    tx = optax.adam(optax.cosine_decay_schedule(0.05, 1500))

    def objective(posterior, key):
        def nll(key):
            residual = targets - inputs @ mean_field.sample(key, posterior)["kernel"]
            return 0.5 * jnp.mean(jnp.square(residual / noise))

        return negative_elbo(
            jnp.mean(jax.vmap(nll)(jax.random.split(key, 64))), p.kl(posterior, None), len(y)
        )

    def step(carry, key):
        posterior, opt_state = carry
        updates, opt_state = tx.update(jax.grad(objective)(posterior, key), opt_state)
        return (optax.apply_updates(posterior, updates), opt_state), None

    posterior = mean_field.around({"kernel": jnp.zeros(3)}, 0.3, "none")
    keys = jax.random.split(jax.random.key(0), 1500)
    (posterior, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(
        (posterior, tx.init(posterior))
    )
    deviation = np.diag(precision) ** -0.5
    np.testing.assert_allclose(posterior.mean["kernel"], exact, atol=0.1 * deviation.min())
    np.testing.assert_allclose(mean_field.sigma(posterior)["kernel"], deviation, rtol=0.05)
