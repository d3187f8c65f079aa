"""KL in closed form against Monte Carlo, and what each prior pulls on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from research.posteriors import mean_field, priors
from research.posteriors.mean_field import MeanField

DRAWS = 20_000
PI, WIDE, NARROW = 0.25, 1.0, float(np.exp(-6))


@pytest.fixture(scope="module")
def posterior():
    mean = {"a/kernel": jnp.array([[0.8, -0.1], [0.0, 2.0]]), "b/bias": jnp.array([-0.4])}
    sigma = {"a/kernel": jnp.array([[0.3, 0.05], [1.5, 0.2]]), "b/bias": jnp.array([0.01])}
    return MeanField(mean, jax.tree.map(mean_field.softplus_inverse, sigma))


SCALE = {"a/kernel": jnp.array([[0.5, 1.0], [2.0, 0.7]]), "b/bias": jnp.array([0.3])}
CENTRE = {"a/kernel": jnp.array([[1.0, 0.0], [0.5, 2.5]]), "b/bias": jnp.array([-0.5])}


def _flat(tree):
    return np.concatenate([np.ravel(np.float64(tree[path])) for path in sorted(tree)])


def _mixture_logpdf(w):
    return np.logaddexp(
        np.log(PI) + stats.norm.logpdf(w, scale=WIDE),
        np.log(1 - PI) + stats.norm.logpdf(w, scale=NARROW),
    )


CLOSED = {
    "gaussian": (priors.gaussian(SCALE), lambda w: stats.norm.logpdf(w, scale=_flat(SCALE))),
    "centred": (
        priors.gaussian(SCALE, CENTRE),
        lambda w: stats.norm.logpdf(w, _flat(CENTRE), _flat(SCALE)),
    ),
    "laplace": (priors.laplace(SCALE), lambda w: stats.laplace.logpdf(w, scale=_flat(SCALE))),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_equals_monte_carlo(name, posterior):
    prior, log_p = CLOSED[name]
    mean, sigma = _flat(posterior.mean), _flat(mean_field.sigma(posterior))
    draws = np.random.default_rng(0).normal(mean, sigma, (DRAWS, len(mean)))
    terms = (stats.norm.logpdf(draws, mean, sigma) - log_p(draws)).sum(1)
    error = terms.std() / np.sqrt(DRAWS)
    np.testing.assert_allclose(jax.jit(prior.kl)(posterior, None), terms.mean(), atol=5 * error)


def test_the_sampled_kl_is_that_of_the_draw(posterior):
    draw = jax.jit(mean_field.sample)(jax.random.key(0), posterior)
    w, mean, sigma = _flat(draw), _flat(posterior.mean), _flat(mean_field.sigma(posterior))
    exact = stats.norm.logpdf(w, mean, sigma).sum() - _mixture_logpdf(w).sum()
    prior = priors.mixture(PI, WIDE, NARROW)
    assert prior.needs_draw
    np.testing.assert_allclose(jax.jit(prior.kl)(posterior, draw), exact, rtol=1e-4)


def test_pitfall_07_the_mixture_is_of_each_weight_not_of_the_tensor():
    weights = np.array([0.0, 0.001, 0.5, -2.0])
    log_probs = priors.mixture_log_prob(jnp.asarray(weights, jnp.float32), PI, WIDE, NARROW)
    np.testing.assert_allclose(log_probs, _mixture_logpdf(weights), rtol=1e-5)


def test_pitfall_08_the_mixture_pulls_on_far_weights():
    pull = jax.jit(jax.grad(lambda w: priors.mixture_log_prob(w, 0.5, 0.1, 0.001)))
    for w in (0.7, 5.0, 50.0):  # the density underflows in float32
        np.testing.assert_allclose(pull(jnp.float32(w)), -w / 0.1**2, rtol=1e-4)


def test_pitfall_10_the_prior_pulls_on_means(posterior):
    pulls = jax.jit(jax.grad(lambda q: CLOSED["gaussian"][0].kl(q, None)))(posterior).mean
    for path, pull in pulls.items():
        np.testing.assert_allclose(
            pull, posterior.mean[path] / np.square(SCALE[path]), rtol=1e-5, atol=1e-6
        )


def test_pitfall_11_the_scale_is_a_standard_deviation(posterior):
    same = priors.gaussian(mean_field.sigma(posterior), posterior.mean)
    np.testing.assert_allclose(same.kl(posterior, None), 0.0, atol=1e-6)


def test_pitfall_01_and_02_kl_is_a_sum_over_weights_and_layers(posterior):
    q = MeanField(
        {path: jnp.tile(leaf, 3) for path, leaf in posterior.mean.items()},
        {path: jnp.tile(leaf, 3) for path, leaf in posterior.rho.items()},
    )
    scale = {path: jnp.tile(leaf, 3) for path, leaf in SCALE.items()}
    once = CLOSED["gaussian"][0].kl(posterior, None)
    np.testing.assert_allclose(priors.gaussian(scale).kl(q, None), 3 * once, rtol=1e-5)


def test_the_hierarchical_prior_is_the_best_gaussian(posterior):
    def kl(log_s, path):
        mean, sigma = np.float64(posterior.mean[path]), np.float64(deviations[path])
        variance = np.exp(2 * log_s)
        terms = log_s - np.log(sigma) + (sigma**2 + mean**2) / (2 * variance) - 0.5
        return terms.sum()

    deviations = mean_field.sigma(posterior)
    best = {p: optimize.minimize_scalar(kl, (-2, 2), args=(p,)) for p in posterior.mean}
    found = priors.hierarchical().kl(posterior, None)
    np.testing.assert_allclose(found, sum(b.fun for b in best.values()), rtol=1e-4)
    # At the optimum the variance's own change does not matter: the gradients are the same.
    variance = {
        path: jnp.mean(jnp.square(posterior.mean[path]) + jnp.square(sigma))
        for path, sigma in mean_field.sigma(posterior).items()
    }
    fixed = priors.gaussian(jax.tree.map(jnp.sqrt, variance))
    one = jax.jit(jax.grad(lambda q: priors.hierarchical().kl(q, None)))(posterior)
    other = jax.jit(jax.grad(lambda q: fixed.kl(q, None)))(posterior)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
