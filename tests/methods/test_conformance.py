"""One table that every method in research/methods passes, and every wrapper around each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import recipe
from research.data.dataset import Dataset, Split
from research.mesh import data_mesh, replicate, shard
from research.method import Batch
from research.method import predict as predict_all
from research.methods.mc_dropout import mc_dropout
from research.models import chain

CLASSES, EXAMPLES = 3, 64
LAYERS = (
    chain.Dense("hidden", 16, "relu"),
    chain.Dropout(0.2),
    chain.Dense("predictions", CLASSES),
)


BASES = [name for name in recipe.method_names() if not recipe.is_wrapper(name)]
WRAPPERS = [name for name in recipe.method_names() if recipe.is_wrapper(name)]
NAMES = BASES + [f"{wrapper}({base})" for wrapper in WRAPPERS for base in BASES]
STEPS = 40


def _model(classes=CLASSES, dtype=None):
    layers = (*LAYERS[:-1], chain.Dense("predictions", classes))
    return chain.as_model(chain.Chain(layers, dtype))


def _build(name, tx=None, learning_rate=0.02, model=None):
    (told,) = recipe.parse(name)
    rate = learning_rate * recipe.training(told).learning_rate
    given = recipe.Given(
        model=model or _model(),
        tx=tx or optax.adam(rate),
        learning_rate=rate,
        num_train=EXAMPLES,
        num_steps=STEPS,
        steps_per_epoch=4,
    )
    return recipe.build(told, given)


@pytest.fixture(scope="module")
def dataset():
    """Three overlapping blobs in the plane."""
    generator = np.random.default_rng(0)
    labels = (np.arange(EXAMPLES) % CLASSES).astype(np.int32)
    centres = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    points = (centres[labels] + generator.normal(size=(EXAMPLES, 2))).astype(np.float32)
    split = Split(points, labels, np.arange(EXAMPLES).astype(str))
    return Dataset("blobs", ("a", "b", "c"), split, split, split)


def _batch(method, dataset):
    """Each member's batch is the whole training split."""
    images = jnp.tile(jnp.asarray(dataset.train.images), (method.members, 1))
    return Batch(images, jnp.tile(jnp.asarray(dataset.train.labels), method.members))


def _train(method, dataset, steps=STEPS, put=lambda batch: batch):
    batch = put(_batch(method, dataset))
    state = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
    step = jax.jit(method.step)
    losses = []
    for number in range(steps):
        state, metrics = step(jax.random.fold_in(jax.random.key(1), number), state, batch)
        losses.append(float(metrics["loss"]))
    return state, losses, step


@pytest.mark.parametrize("name", NAMES)
class TestEveryMethod:
    def test_loss_falls_and_the_state_keeps_its_form(self, name, dataset):
        method = _build(name)
        before = jax.eval_shape(
            method.init, jax.random.key(0), jnp.asarray(dataset.train.images[:1])
        )
        state, losses, step = _train(method, dataset)
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
        form = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        assert form == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), before)
        assert step._cache_size() == 1, "the step compiled more than once"

    def test_step_reports_finite_scalars(self, name, dataset):
        method = _build(name, optax.sgd(0.01))
        batch = _batch(method, dataset)
        state = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
        _, metrics = jax.jit(method.step)(jax.random.key(1), state, batch)
        assert {"loss", "nll", "accuracy", "confidence"} <= set(metrics)
        assert all(m.shape == () and np.isfinite(m) for m in metrics.values())

    def test_predictions_are_normalised_and_belong_to_the_key(self, name, dataset):
        method = _build(name)
        state, _, _ = _train(method, dataset, steps=20)
        images = jnp.asarray(dataset.test.images)
        state = method.finish(jax.random.key(2), state, dataset)
        predict = jax.jit(partial(predict_all, method))
        log_probs = predict(jax.random.key(3), state, images)
        assert log_probs.shape[1:] == (EXAMPLES, CLASSES)
        assert log_probs.dtype == jnp.float32
        np.testing.assert_allclose(jax.nn.logsumexp(log_probs, axis=-1), 0.0, atol=1e-5)
        np.testing.assert_array_equal(predict(jax.random.key(3), state, images), log_probs)
        # The same draws serve every batch: a part of the images gets the same predictions.
        part = jax.jit(partial(predict_all, method))(jax.random.key(3), state, images[5:12])
        np.testing.assert_allclose(part, log_probs[:, 5:12], atol=1e-5)

    def test_eight_devices_equal_one(self, name, dataset):
        method = _build(name, optax.sgd(0.05))
        alone, _, _ = _train(method, dataset, steps=3)
        mesh = data_mesh()
        assert mesh.size == 8
        shared, _, _ = _train(method, dataset, steps=3, put=lambda batch: shard(batch, mesh))
        replicate(shared, mesh)
        for one, eight in zip(jax.tree.leaves(alone), jax.tree.leaves(shared), strict=True):
            np.testing.assert_allclose(one, eight, atol=1e-5)


def test_draws_differ_where_there_is_noise(dataset):
    method = _build("mc_dropout")
    state, _, _ = _train(method, dataset)
    draws = predict_all(method, jax.random.key(0), state, jnp.asarray(dataset.test.images))
    assert draws.shape[0] == 30
    assert np.std(np.exp(draws), axis=0).max() > 0.01


def test_mc_dropout_draws_have_the_moments_of_dropout():
    """On a linear layer over dropout, the logit's mean and variance are known in closed form."""
    rate, samples, width = 0.3, 4000, 8
    layers = (chain.Dropout(rate), chain.Dense("predictions", 2, use_bias=False))
    method = mc_dropout(chain.as_model(chain.Chain(layers)), optax.sgd(0.1), num_samples=samples)
    x = jax.random.normal(jax.random.key(0), (5, width))
    state = method.init(jax.random.key(1), x)
    log_probs = np.asarray(
        predict_all(method, jax.random.key(2), state, x), np.float64
    )  # [S, 5, 2]
    margin = log_probs[..., 1] - log_probs[..., 0]
    kernel = np.asarray(state.params["predictions"]["kernel"], np.float64)
    terms = np.asarray(x, np.float64) * (kernel[:, 1] - kernel[:, 0])  # [5, width]
    mean, variance = terms.sum(1), rate / (1 - rate) * np.square(terms).sum(1)
    # Five standard errors; the variance's own is at most sqrt(kurtosis/S), kurtosis below 3 here.
    np.testing.assert_allclose(margin.mean(0), mean, atol=5 * np.sqrt(variance.max() / samples))
    np.testing.assert_allclose(margin.var(0), variance, rtol=5 * np.sqrt(2 / samples))


def test_ensemble_members_are_independent(dataset):
    method = _build("ensemble(point)")
    state, _, _ = _train(method, dataset, steps=20)
    kernels = np.asarray(state.params["hidden"]["kernel"])  # [M, 2, 16]
    assert len(kernels) == 5
    for i in range(5):
        for j in range(i):
            assert np.abs(kernels[i] - kernels[j]).max() > 0.1


def test_an_ensemble_member_equals_the_method_alone(dataset):
    base = _build("point", optax.sgd(0.05))
    together, _, _ = _train(_build("ensemble(point)", optax.sgd(0.05)), dataset, steps=2)
    batch = Batch(jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels))
    member = 3
    state = base.init(jax.random.split(jax.random.key(0), 5)[member], batch.images[:1])
    for number in range(2):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), number), 5)
        state, _ = base.step(keys[member], state, batch)
    for one, all_of_them in zip(jax.tree.leaves(state), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(one, all_of_them[member], atol=1e-6)
