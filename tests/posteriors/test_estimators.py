"""Each estimator against brute force: weights drawn one network at a time by `jax.random`."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models import chain
from research.models.layers import Affine, Conv, Dense, GlobalPool, Pool
from research.posteriors.estimators import ESTIMATORS
from research.posteriors.mean_field import MeanField, around, sigma
from research.posteriors.parameters import join

DRAWS = 2000
# Most of the time goes into compiling, not into the draws.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NETWORKS = {
    "dense": ((Dense("hidden", 5, "relu"), Dense("predictions", 2)), (3, 4)),
    "conv": (
        (
            Conv("conv1", 3),
            Pool("max"),
            Conv("conv2", 3),  # on a 2x2 map: by patches
            GlobalPool("average"),
            Dense("predictions", 2),
        ),
        (2, 4, 4, 2),
    ),
    "one conv": ((Conv("conv1", 2, strides=(2, 2), activation="linear"),), (2, 4, 4, 2)),
}
# Local noise of a convolution is right at every position, but not across them.
CASES = [(e, n) for e in ESTIMATORS for n in ("dense", "one conv" if e == "local" else "conv")]


def _network(name):
    layers, shape = NETWORKS[name]
    model = chain.as_model(chain.Chain(layers))
    images = jax.random.normal(jax.random.key(0), shape)
    params = jit(model.init)(jax.random.key(1), images)
    flat = {f"{a}/{b}": leaf for a, layer in params.items() for b, leaf in layer.items()}
    return model.apply, around(flat, 0.7, "fan_in"), images


def _brute_force(apply, posterior, deterministic, images, key):
    keys = jax.random.split(key, len(posterior.mean))
    deviations = sigma(posterior)
    weights = {
        path: mean + deviations[path] * jax.random.normal(noise_key, mean.shape)
        for (path, mean), noise_key in zip(posterior.mean.items(), keys, strict=True)
    }
    return apply(join(weights, deterministic), images)


def _draws(function, seed, draws=DRAWS):
    """What a function of a key gives for many keys, float64."""
    keys = jax.random.split(jax.random.key(seed), draws)
    results = jit(lambda keys: jax.lax.map(function, keys))(keys)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), results)


@pytest.fixture(scope="module")
def brute_force():
    found = {}

    def of(name):
        if name not in found:
            apply, posterior, images = _network(name)
            found[name] = _draws(lambda key: _brute_force(apply, posterior, {}, images, key), 2)
        return found[name]

    return of


def _assert_same_moments(one, other):
    """Mean and variance over the first axis, within five standard errors of their difference."""

    def errors(x):
        centred = np.square(x - x.mean(0))
        return x.mean(0), x.var(0), x.var(0) / len(x), centred.var(0) / len(x)

    (m1, v1, sm1, sv1), (m2, v2, sm2, sv2) = errors(one), errors(other)
    assert (np.abs(m1 - m2) < 5 * np.sqrt(sm1 + sm2)).all()
    assert (np.abs(v1 - v2) < 5 * np.sqrt(sv1 + sv2)).all()
    assert (v2 > 0.05).all(), "the noise is large enough to be missed"


@pytest.mark.parametrize(("estimator", "name"), CASES)
def test_logits_have_the_mean_and_variance_of_weight_draws(estimator, name, brute_force):
    apply, posterior, images = _network(name)
    estimate = partial(ESTIMATORS[estimator], apply, posterior, {}, images)
    _assert_same_moments(_draws(lambda key: estimate(key).logits, 3), brute_force(name))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pitfall_14_only_the_shared_draw_couples_examples(estimator):
    layers = (Dense("predictions", 1),)
    apply = chain.as_model(chain.Chain(layers)).apply
    images = jnp.array([[1.0, 2.0], [2.0, -0.5], [0.5, 1.0]])
    posterior = around(
        {"predictions/kernel": jnp.array([[0.3], [-1.0]]), "predictions/bias": jnp.array([0.2])},
        0.5,
        "none",
    )
    estimate = partial(ESTIMATORS[estimator], apply, posterior, {}, images)
    logits = _draws(lambda key: estimate(key).logits[:, 0], 0)
    theory = 0.25 * (np.asarray(images) @ np.asarray(images).T + 1)  # σ² (x·x' + 1)
    if estimator != "shared":
        theory = np.diag(np.diag(theory))
    # Of the covariance of normals; a product of signs has no more.
    error = np.sqrt((np.square(theory) + np.outer(np.diag(theory), np.diag(theory))) / DRAWS)
    assert (np.abs(np.cov(logits.T) - theory) < 5 * error).all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_unbiased(estimator):
    apply, posterior, images = _network("dense")

    def gradient(logits_of, key):
        def loss(posterior):
            logits = logits_of(apply, posterior, {}, images, key)
            return jnp.mean(jnp.square(jnp.sin(logits) - 0.3))

        return jnp.concatenate([jnp.ravel(g) for g in jax.tree.leaves(jax.grad(loss)(posterior))])

    def by_estimator(*arguments):
        return ESTIMATORS[estimator](*arguments).logits

    one = _draws(partial(gradient, by_estimator), 3)
    other = _draws(partial(gradient, _brute_force), 4)
    error = np.sqrt((one.var(0) + other.var(0)) / DRAWS)
    assert (np.abs(one.mean(0) - other.mean(0)) <= 5 * error).all()
    assert (np.abs(other.mean(0)) > 5 * error).any(), "a gradient of zero would not pass"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradient_variance_against_batch_size(estimator):
    """Wen et al. 2018, theorem 2: the shared draw's flattens, the others' fall as 1/N."""
    apply = chain.as_model(chain.Chain((Dense("predictions", 1),))).apply
    images = jnp.abs(jax.random.normal(jax.random.key(0), (256, 4)))
    posterior = around({"predictions/kernel": jnp.full((4, 1), 0.3)}, 0.5, "none")
    deterministic = {"predictions/bias": jnp.zeros(1)}

    def variance(size):
        def gradient(key):
            def loss(mean):
                q = MeanField(mean, posterior.rho)
                estimate = ESTIMATORS[estimator](apply, q, deterministic, images[:size], key)
                return jnp.mean(jnp.square(estimate.logits - 1))

            return jax.grad(loss)(posterior.mean)["predictions/kernel"]

        return _draws(gradient, 1, 1000).var(0).sum()

    ratio = variance(256) / variance(16)
    if estimator == "shared":
        assert ratio > 0.5
    else:
        assert 0.5 / 16 < ratio < 2 / 16


def test_pitfall_13_flipout_keeps_a_kernels_noise_constant_over_space():
    """On a constant image every position sees the same kernel, so the noise is one number."""
    apply = chain.as_model(chain.Chain((Conv("conv", 2, (1, 1), activation="linear"),))).apply
    images = jnp.ones((3, 4, 4, 2))
    weights = {"conv/kernel": jnp.ones((1, 1, 2, 2)), "conv/bias": jnp.zeros(2)}
    posterior = around(weights, 0.5, "none")
    only_biases = {**posterior.rho, "conv/kernel": jnp.full((1, 1, 2, 2), -jnp.inf)}
    for name, rho in (
        ("flipout", posterior.rho),
        ("flipout", only_biases),
        ("local", only_biases),
    ):
        estimate = partial(ESTIMATORS[name], apply, MeanField(weights, rho), {}, images)
        logits = np.asarray(jit(estimate)(jax.random.key(1)).logits)
        first = np.broadcast_to(logits[:, :1, :1], logits.shape)
        np.testing.assert_allclose(logits, first, rtol=1e-5)
        assert len(np.unique(logits[:, 0, 0].round(3), axis=0)) > 1, "examples differ"


def test_a_network_that_was_traced_before_gets_the_same_noise():
    apply, posterior, images = _network("dense")
    once, again = (
        jit(partial(ESTIMATORS["flipout"], apply, posterior, {}, images))(jax.random.key(0)).logits
        for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_certain_layers_pass_through_and_scales_are_drawn(estimator):
    layers = (Dense("fc", 3), Affine("norm"), Dense("predictions", 2))
    model = chain.as_model(chain.Chain(layers))
    images = jax.random.normal(jax.random.key(0), (4, 3))
    params = jit(model.init)(jax.random.key(1), images)
    flat = {f"{a}/{b}": leaf for a, layer in params.items() for b, leaf in layer.items()}
    stochastic = {"norm/scale": flat.pop("norm/scale")}
    posterior = around(stochastic, 0.5, "none")
    estimate = jit(lambda q, key: ESTIMATORS[estimator](model.apply, q, flat, images, key).logits)
    one, other = (estimate(posterior, jax.random.key(seed)) for seed in range(2))
    assert np.abs(one - other).max() > 0.05
    deterministic = MeanField(stochastic, {"norm/scale": np.full(3, -np.inf, np.float32)})
    same = estimate(deterministic, jax.random.key(0))
    np.testing.assert_allclose(same, jit(model.apply)(params, images), rtol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_any_flax_module_will_do(estimator):
    """A bare layer and nested ones; the interceptors do not meet their own calls."""
    images = jax.random.normal(jax.random.key(0), (4, 3))
    for module in (nn.Dense(2), nn.Sequential([nn.Dense(3), nn.Sequential([nn.Dense(2)])])):
        params = jit(module.init)(jax.random.key(1), images)["params"]
        paths = jax.tree_util.tree_flatten_with_path(params)[0]
        flat = {"/".join(key.key for key in path): leaf for path, leaf in paths}

        def apply(params, images, module=module):
            return module.apply({"params": params}, images)

        estimate = partial(ESTIMATORS[estimator], apply, around(flat, 0.5, "none"), {}, images)
        one, other = _draws(lambda key, estimate=estimate: estimate(key).logits, 0, 2)
        assert np.abs(one - other).min() > 0


def test_local_noise_of_dead_inputs_has_a_finite_gradient():
    apply = chain.as_model(chain.Chain((Conv("conv", 2),))).apply
    posterior = around(
        {"conv/kernel": jnp.ones((3, 3, 1, 2)), "conv/bias": jnp.zeros(2)}, 0.1, "none"
    )

    def loss(posterior, images):
        logits = ESTIMATORS["local"](apply, posterior, {}, images, jax.random.key(0)).logits
        return jnp.sum(jnp.square(logits))

    gradients = jit(jax.grad(loss, argnums=(0, 1)))(posterior, jnp.zeros((2, 4, 4, 1)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
