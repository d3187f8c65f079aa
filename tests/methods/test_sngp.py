"""SNGP: layers that stretch nothing too far, a kernel approximated, an exact Laplace posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.dataset import Dataset, Split
from research.method import Batch, predict
from research.methods.sngp import Head, random_features, sngp, spectral_normalise
from research.models import chain
from research.models.layers import BinaryLogit, Conv, Dense, Dropout, GlobalPool
from research.runtime.errors import UserError

FEATURES, CLASSES, AMPLITUDE = 24, 3, 2.0


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


def _toy(seed=0, count=60):
    """Three blobs in the plane, 2 from the origin."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    angles = 2 * np.pi * labels / CLASSES
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = (centres + 0.5 * generator.normal(size=(count, 2))).astype(np.float32)
    return Split(points, labels, np.arange(count).astype(str))


@pytest.fixture(scope="module")
def split():
    return _toy()


def _dataset(split):
    return Dataset("blobs", ("a", "b", "c"), split, split, split)


@pytest.fixture(scope="module")
def fitted(split):
    """(method, state after training, state after `finish`)."""
    layers = (
        Dense("hidden", 8, "relu"),
        Dropout(0.5),
        Dense("predictions", CLASSES),
    )
    model = chain.as_model(chain.Chain(layers))
    method = sngp(
        model,
        optax.adam(0.05),
        num_train=len(split.labels),
        num_features=FEATURES,
        amplitude=AMPLITUDE,
        norm_bound=1.5,
    )
    method = method._replace(num_draws=4000)
    batch = Batch(*map(jnp.asarray, split[:2]))
    state = method.init(jax.random.key(0), batch.images[:1])
    step = jax.jit(method.step)
    for number in range(150):
        state, _ = step(jax.random.key(number), state, batch)
    return method, state, method.finish(jax.random.key(0), state, _dataset(split))


def _features(state, points):
    """phi, by hand, in float64."""
    hidden = {name: np.asarray(leaf, np.float64) for name, leaf in state.params["hidden"].items()}
    h = np.maximum(points @ hidden["kernel"] + hidden["bias"], 0)
    angles = h @ np.asarray(state.head.frequencies, np.float64) + np.asarray(state.head.phases)
    return AMPLITUDE * np.sqrt(2 / FEATURES) * np.cos(angles)


def test_training_keeps_the_bound_and_the_random_features(fitted):
    method, trained, _ = fitted
    assert _norm(trained.params["hidden"]["kernel"]) <= 1.5 * 1.001
    assert set(trained.params) == {"hidden"}
    before = method.init(jax.random.key(0), jnp.asarray(_toy().images[:1]))
    np.testing.assert_array_equal(before.head.frequencies, trained.head.frequencies)
    h = np.maximum(_toy().images[:1] @ np.asarray(before.params["hidden"]["kernel"]), 0)
    # The length scale is |h| of the first image: frequencies have that standard deviation inverse.
    ratio = np.std(before.head.frequencies) * np.linalg.norm(h)
    assert abs(ratio - 1) < 5 / np.sqrt(2 * before.head.frequencies.size)


def test_the_posterior_covariance_is_that_of_brute_force(fitted, split):
    _, trained, finished = fitted
    features = _features(trained, split.images)
    logits = features @ np.asarray(trained.beta, np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for k in range(CLASSES):
        precision = np.eye(FEATURES)
        for i in range(len(features)):
            precision += probs[i, k] * (1 - probs[i, k]) * np.outer(features[i], features[i])
        scale = np.asarray(finished.head.scale[k], np.float64)
        np.testing.assert_allclose(scale @ scale.T, np.linalg.inv(precision), atol=2e-5)


def test_draws_have_the_moments_of_that_posterior(fitted, split):
    method, trained, finished = fitted
    points = split.images[:4]
    features = _features(trained, points)
    log_probs = np.asarray(
        predict(method, jax.random.key(1), finished, jnp.asarray(points)), np.float64
    )
    difference = log_probs[..., 0] - log_probs[..., 1]  # [S, 4]
    beta = np.asarray(trained.beta, np.float64)
    scale = np.asarray(finished.head.scale, np.float64)
    mean = features @ (beta[:, 0] - beta[:, 1])
    # Classes are independent in this posterior, so variances add.
    variance = sum(np.sum((features @ scale[k]) ** 2, axis=1) for k in (0, 1))
    draws = method.num_draws
    assert np.all(np.abs(difference.mean(0) - mean) < 5 * np.sqrt(variance / draws))
    np.testing.assert_allclose(difference.var(0), variance, rtol=5 * np.sqrt(2 / draws))


def test_before_finish_a_draw_is_the_map(fitted, split):
    method, trained, _ = fitted
    points = split.images[:4]
    logits = _features(trained, points) @ np.asarray(trained.beta, np.float64)
    network = method.draw(jax.random.key(3), trained, jnp.int32(7))
    expected = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(method.apply(network, jnp.asarray(points)), expected, atol=1e-4)


def test_farther_from_the_data_is_less_sure(fitted, split):
    method, _, finished = fitted

    def confidence(points):
        log_probs = predict(method, jax.random.key(1), finished, jnp.asarray(points, jnp.float32))
        return np.exp(np.asarray(log_probs, np.float64)).mean(0).max(1)

    images = _toy(seed=1).images
    at_the_data = confidence(images)
    far = confidence(20 * images)
    assert at_the_data.mean() > 0.7
    assert far.mean() < 0.6
    assert far.mean() < at_the_data.mean() - 0.15


def test_the_posterior_of_one_logit_of_two_classes(split):
    """A network with one output z has the logits (0, z): p (1 - p) is that of class 1."""
    layers = (Dense("predictions", 1), BinaryLogit())
    method = sngp(chain.as_model(chain.Chain(layers)), optax.sgd(0.1), 60, FEATURES, amplitude=1.0)
    state = method.init(jax.random.key(0), jnp.asarray(split.images[:1]))
    beta = jax.random.normal(jax.random.key(2), state.beta.shape)
    state = method.finish(None, state._replace(beta=beta), _dataset(split))
    features = np.asarray(random_features(jnp.asarray(split.images), state.head, 1.0), np.float64)
    p = 1 / (1 + np.exp(-features @ np.asarray(beta, np.float64)[:, 0]))
    precision = np.eye(FEATURES) + (features.T * (p * (1 - p))) @ features
    scale = np.asarray(state.head.scale[0], np.float64)
    np.testing.assert_allclose(scale @ scale.T, np.linalg.inv(precision), atol=2e-5)


def test_a_network_that_ends_in_no_dense_layer_is_an_error():
    layers = (Conv("maps", 2, activation="linear"), GlobalPool("average"))
    method = sngp(chain.as_model(chain.Chain(layers)), optax.sgd(0.1), 60)
    with pytest.raises(UserError, match="sngp: the network ends in maps, not a dense layer"):
        method.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("num_features", 10.5, "whole number from 1"),
        ("num_samples", 0, "whole number from 1"),
        ("length_scale", "long", "number above 0"),
        ("amplitude", -1, "number above 0"),
        ("norm_bound", None, "number above 0"),
    ],
)
def test_bad_options_are_errors(option, value, wanted):
    model = chain.as_model(chain.Chain((Dense("predictions", 2),)))
    with pytest.raises(UserError) as caught:
        sngp(model, optax.sgd(0.1), 60, **{option: value})
    assert str(caught.value) == f"sngp({option}={value}): give a {wanted}"
