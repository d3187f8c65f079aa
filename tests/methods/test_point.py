"""The loss options of `point`: what is minimised, what is reported, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.method import Batch, batch_metrics
from research.methods.point import mixup, point
from research.models import chain
from research.models.layers import Dense
from research.models.preprocess import PREPROCESS
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh, shard

RATE = 0.1
START = {"predictions": {"kernel": np.linspace(-1, 1, 12).reshape(4, 3), "bias": np.zeros(3)}}
START = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), START)


@pytest.fixture(scope="module")
def model():
    return chain.as_model(chain.Chain((Dense("predictions", 3),)))


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    return Batch(
        jnp.asarray(generator.normal(size=(8, 4)), jnp.float32), jnp.arange(8, dtype=jnp.int32) % 3
    )


def _step(model, batch, **options):
    """(parameters before, after one step of gradient descent, metrics)."""
    method = point(model, optax.sgd(RATE), **options)
    state = method.init(None, None, START)
    after, metrics = method.step(jax.random.key(1), state, batch)
    return state.params, after.params, metrics


def _gradient(before, after, name="kernel"):
    return (before["predictions"][name] - after["predictions"][name]) / RATE


def test_without_options_the_loss_is_the_nll(model, batch):
    before, after, metrics = _step(model, batch)
    probs = jax.nn.softmax(model.apply(before, batch.images))
    error = (probs - jax.nn.one_hot(batch.labels, 3)) / 8
    np.testing.assert_allclose(_gradient(before, after), batch.images.T @ error, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], metrics["nll"], rtol=1e-6)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.2}, {"focal_gamma": 3}])
def test_options_change_the_loss_and_leave_the_nll(model, batch, options):
    before, _, metrics = _step(model, batch, **options)
    plain = batch_metrics(model.apply(before, batch.images), batch.labels)
    for name, value in plain.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    assert abs(metrics["loss"] - plain["nll"]) > 0.01


def test_label_smoothing_gradient(model, batch):
    before, after, _ = _step(model, batch, label_smoothing=0.3)
    probs = jax.nn.softmax(model.apply(before, batch.images))
    error = (probs - 0.7 * jax.nn.one_hot(batch.labels, 3) - 0.1) / 8
    np.testing.assert_allclose(_gradient(before, after), batch.images.T @ error, atol=1e-5)


def test_l1_pulls_kernels_towards_zero_and_spares_biases(model, batch):
    before, plain, _ = _step(model, batch)
    _, after, metrics = _step(model, batch, l1=0.1)
    kernel = before["predictions"]["kernel"]
    pull = _gradient(before, after) - _gradient(before, plain)
    np.testing.assert_allclose(pull, 0.1 * np.sign(kernel), atol=1e-5)
    np.testing.assert_array_equal(after["predictions"]["bias"], plain["predictions"]["bias"])
    penalty = 0.1 * np.abs(kernel).sum()
    np.testing.assert_allclose(metrics["loss"] - metrics["nll"], penalty, rtol=1e-5)


def test_mixup_trains_on_mixed_images_and_labels(model, batch):
    """By hand, with the shares and partners that the step's key gives; focal and smooth as well."""
    mixed = mixup(jax.random.fold_in(jax.random.key(1), 1), batch.images, 0.5)
    share, others = mixed.share, batch.labels[mixed.partners]
    assert 0.01 < share < 0.99
    before, after, metrics = _step(model, batch, mixup_alpha=0.5)
    logits = model.apply(before, mixed.images)
    one_hot = share * jax.nn.one_hot(batch.labels, 3) + (1 - share) * jax.nn.one_hot(others, 3)
    error = (jax.nn.softmax(logits) - one_hot) / 8
    np.testing.assert_allclose(_gradient(before, after), mixed.images.T @ error, atol=1e-5)
    nll = -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=-1))
    np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-5)
    right = [jnp.mean(jnp.argmax(logits, -1) == labels) for labels in (batch.labels, others)]
    np.testing.assert_allclose(
        metrics["accuracy"], share * right[0] + (1 - share) * right[1], rtol=1e-5
    )
    _, _, both = _step(model, batch, mixup_alpha=0.5, label_smoothing=0.2, focal_gamma=2)
    np.testing.assert_allclose(both["nll"], nll, rtol=1e-5)
    probs, targets = jax.nn.softmax(logits), 0.8 * one_hot + 0.2 / 3
    focal = -jnp.sum(targets * (1 - probs) ** 2 * jnp.log(probs), axis=-1)
    np.testing.assert_allclose(both["loss"], jnp.mean(focal), rtol=1e-5)


def test_mixup_on_eight_devices_equals_one(model, batch):
    method = point(model, optax.sgd(RATE), mixup_alpha=0.5)
    state = method.init(None, None, START)
    alone, _ = method.step(jax.random.key(1), state, batch)
    shared, _ = method.step(jax.random.key(1), state, shard(batch, data_mesh()))
    np.testing.assert_allclose(
        alone.params["predictions"]["kernel"], shared.params["predictions"]["kernel"], atol=1e-6
    )


@pytest.mark.parametrize("name", PREPROCESS)
def test_preprocessing_takes_mixed_images(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3)).astype(np.uint8)
    expected = PREPROCESS[name](images)
    as_floats = PREPROCESS[name](jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(as_floats, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"focal_gamma": -1},
        {"mixup_alpha": "often"},
        {"mixup_alpha": None},
        {"l1": -0.1},
    ],
)
def test_bad_options_are_errors(model, options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"^point\({name}={value}\): give a number from 0"):
        point(model, optax.sgd(RATE), **options)
