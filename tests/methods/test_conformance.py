"""One table that every method in research/methods passes, and every wrapper around each."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.data.dataset import Dataset, Split
from research.method import Batch, Method, gaussian
from research.method import predict as predict_all
from research.methods.mc_dropout import mc_dropout
from research.models import chain
from research.models.layers import Conv, Dense, Dropout, Flatten
from research.posteriors.predictive import predictor
from research.runtime import checkpoint
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh, place, shard
from research.training import recipe

CLASSES, EXAMPLES, STEPS = 3, 64, 40
LAYERS = (
    Dense("hidden", 16, "relu"),
    Dropout(0.2),
    Dense("predictions", CLASSES),
)
BASES = [name for name in recipe.method_names() if not recipe.is_wrapper(name)]
WRAPPERS = [name for name in recipe.method_names() if recipe.is_wrapper(name)]
NAMES = BASES + [f"{wrapper}({base})" for wrapper in WRAPPERS for base in BASES]


def _model(classes=CLASSES, dtype=None):
    layers = (*LAYERS[:-1], Dense("predictions", classes))
    return chain.as_model(chain.Chain(layers, dtype))


def _build(name, tx=None, model=None, learning_rate=0.02):
    (parsed,) = recipe.parse(name)
    rate = learning_rate * parsed.training.learning_rate
    given = recipe.Context(
        model=model or _model(),
        tx=tx or optax.adam(rate),
        learning_rate=rate,
        num_train=EXAMPLES,
        num_steps=STEPS,
        steps_per_epoch=4,
    )
    return recipe.build(parsed, given)


def _blobs(classes):
    """Overlapping blobs on a circle in the plane."""
    generator = np.random.default_rng(0)
    labels = (np.arange(EXAMPLES) % classes).astype(np.int32)
    angles = 2 * np.pi * labels / classes
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = (centres + generator.normal(size=(EXAMPLES, 2))).astype(np.float32)
    split = Split(points, labels, np.arange(EXAMPLES).astype(str))
    return Dataset("blobs", tuple("abc"[:classes]), split, split, split)


DATASET = _blobs(CLASSES)
IMAGES = jnp.asarray(DATASET.test.images)


def _batch(method, dataset=DATASET, size=EXAMPLES):
    """Each member's batch is the beginning of the training split."""
    images = jnp.asarray(dataset.train.images[:size])
    labels = jnp.asarray(dataset.train.labels[:size])
    return Batch(jnp.tile(images, (method.members, 1)), jnp.tile(labels, method.members))


def _steps(step, state, batch, start, stop):
    losses = []
    for number in range(start, stop):
        state, metrics = step(jax.random.fold_in(jax.random.key(1), number), state, batch)
        losses.append(float(metrics["loss"]))
    return state, losses


class _Trained(NamedTuple):
    method: Method
    step: Any
    before: Any
    halfway: Any
    state: Any
    losses: list
    times_traced: int


@cache
def _trained(name):
    """A method after all its steps: one training for all tests of it."""
    method = _build(name)
    batch = _batch(method)
    before = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
    traced = []

    @jax.jit
    def step(*given):
        traced.append(None)
        return method.step(*given)

    halfway, first = _steps(step, before, batch, 0, STEPS // 2)
    state, second = _steps(step, halfway, batch, STEPS // 2, STEPS)
    return _Trained(method, step, before, halfway, state, first + second, len(traced))


def _form(state):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)


def _assert_equal(one, two, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0}))


@pytest.mark.parametrize("name", NAMES, scope="class")  # all tests of a method in one process
class TestEveryMethod:
    def test_loss_falls_and_the_state_keeps_its_form(self, name):
        trained = _trained(name)
        assert np.mean(trained.losses[-10:]) < 0.7 * np.mean(trained.losses[:5])
        assert _form(trained.state) == _form(trained.before)
        assert trained.times_traced == 1, "the step compiled more than once"

    def test_step_reports_finite_scalars(self, name):
        trained = _trained(name)
        batch = _batch(trained.method)
        _, metrics = trained.step(jax.random.key(1), trained.before, batch)
        assert {"loss", "nll", "accuracy", "confidence"} <= set(metrics)
        summary = jax.jit(trained.method.summary)(trained.state)
        for scalar in (*metrics.values(), *summary.values()):
            assert scalar.shape == ()
            assert np.isfinite(scalar)

    def test_predictions_are_normalised_and_belong_to_the_key(self, name):
        method, state = _trained(name).method, _trained(name).state
        finished = method.finish(jax.random.key(2), state, DATASET)
        assert _form(finished) == _form(state)
        predict = jax.jit(partial(predict_all, method))
        log_probs = predict(jax.random.key(3), finished, IMAGES)
        assert log_probs.shape == (method.num_draws, EXAMPLES, CLASSES)
        assert log_probs.dtype == jnp.float32
        np.testing.assert_allclose(jax.nn.logsumexp(log_probs, axis=-1), 0.0, atol=1e-5)
        np.testing.assert_array_equal(predict(jax.random.key(3), finished, IMAGES), log_probs)
        # The same draws serve every batch, and the last one may be a partial one.
        batches = predictor(method, jax.random.key(3), 28)(finished, DATASET.test.images)
        np.testing.assert_allclose(batches, log_probs, atol=1e-4)

    def test_resumes_to_the_bit(self, name, tmp_path):
        trained = _trained(name)
        checkpoints = checkpoint.open_checkpoints(tmp_path)
        checkpoint.save(checkpoints, STEPS // 2, trained.halfway)
        _, restored = checkpoint.restore(checkpoints, trained.before)
        checkpoints.close()
        batch = _batch(trained.method)
        state, losses = _steps(trained.step, restored, batch, STEPS // 2, STEPS)
        assert losses == trained.losses[STEPS // 2 :]
        _assert_equal(state, trained.state)

    def test_eight_devices_equal_one(self, name):
        method, mesh = _build(name, optax.sgd(0.05)), data_mesh()
        assert mesh.size == 8
        batch = _batch(method)
        state = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
        step = jax.jit(method.step)
        alone, _ = _steps(step, state, batch, 0, 3)
        placed = place(state, method.members, mesh)
        shared, _ = _steps(step, placed, shard(batch, mesh), 0, 3)
        _assert_equal(alone, shared, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BASES)
def test_bfloat16_two_classes_and_batches_of_one(name):
    """Computing in bfloat16 keeps states and results in float32; small numbers of things work."""
    method, dataset = _build(name, model=_model(2, jnp.bfloat16)), _blobs(2)
    batch = _batch(method, dataset)
    state = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(state))
    step = jax.jit(method.step)
    after, losses = _steps(step, state, batch, 0, STEPS)
    assert _form(after) == _form(state)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    after, losses = _steps(step, after, _batch(method, dataset, size=1), 0, 2)
    assert np.isfinite(losses).all()
    log_probs = predictor(method, jax.random.key(3), 1)(after, dataset.test.images[:1])
    assert log_probs.dtype == np.float32
    assert log_probs.shape == (method.num_draws, 1, 2)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", BASES)
def test_the_likelihood_of_the_model_is_honoured_or_turned_down(name):
    """A regression is fitted as one; nothing becomes a softmax in silence."""
    model = _model(classes=1)._replace(likelihood=gaussian(0.5))
    if name in ("laplace", "sngp"):
        with pytest.raises(UserError, match=f"^{name}: .*likelihood is not categorical"):
            _build(name, model=model)
        return
    method = _build(name, model=model, learning_rate=1e-4)
    batch = Batch(IMAGES, IMAGES[:, 0])
    state = jax.jit(method.init)(jax.random.key(0), batch.images[:1])
    state, metrics = jax.jit(method.step)(jax.random.key(1), state, batch)
    assert {"nll", "error"} <= set(metrics)
    outputs = predict_all(method, jax.random.key(1), state, IMAGES)  # [S, N, 1]
    assert outputs.shape == (method.num_draws, EXAMPLES, 1)
    assert np.std(outputs, axis=1).min() > 0.01  # a softmax of one output would be 0 everywhere


def test_draws_differ_where_there_is_noise():
    method, state = _trained("mc_dropout").method, _trained("mc_dropout").state
    draws = predict_all(method, jax.random.key(0), state, IMAGES)
    assert draws.shape[0] == 30
    assert np.std(np.exp(draws), axis=0).max() > 0.01


def test_mc_dropout_draws_have_the_moments_of_dropout():
    """On a linear layer over dropout, the logit's mean and variance are known in closed form."""
    rate, samples, width = 0.3, 4000, 8
    layers = (Dropout(rate), Dense("predictions", 2, use_bias=False))
    model = chain.as_model(chain.Chain(layers))
    method = mc_dropout(model, optax.sgd(0.1), num_samples=samples)
    x = jax.random.normal(jax.random.key(0), (5, width))
    state = method.init(jax.random.key(1), x)
    log_probs = np.float64(predict_all(method, jax.random.key(2), state, x))  # [S, 5, 2]
    margin = log_probs[..., 1] - log_probs[..., 0]
    kernel = np.asarray(state.params["predictions"]["kernel"], np.float64)
    terms = np.asarray(x, np.float64) * (kernel[:, 1] - kernel[:, 0])  # [5, width]
    mean, variance = terms.sum(1), rate / (1 - rate) * np.square(terms).sum(1)
    # Five standard errors; the variance's own is at most sqrt(kurtosis/S), kurtosis below 3 here.
    np.testing.assert_allclose(margin.mean(0), mean, atol=5 * np.sqrt(variance.max() / samples))
    np.testing.assert_allclose(margin.var(0), variance, rtol=5 * np.sqrt(2 / samples))


def test_ensemble_members_are_independent():
    kernels = np.asarray(_trained("ensemble(point)").state.params["hidden"]["kernel"])
    assert kernels.shape == (5, 2, 16)
    for i in range(5):
        for j in range(i):
            assert np.abs(kernels[i] - kernels[j]).max() > 0.1


def test_an_ensemble_member_equals_the_method_alone():
    """Its own weights, its own noise and its own part of the batch."""
    base, together = _build("point"), _build("ensemble(point)")
    batch = Batch(IMAGES[:60], jnp.asarray(DATASET.train.labels[:60]))
    states = jax.jit(together.init)(jax.random.key(0), IMAGES[:1])
    states, _ = jax.jit(together.step)(jax.random.key(1), states, batch)
    member = 3
    alone = jax.jit(base.init)(jax.random.split(jax.random.key(0), 5)[member], IMAGES[:1])
    part = Batch(*(leaf[12 * member : 12 * (member + 1)] for leaf in batch))
    alone, _ = jax.jit(base.step)(jax.random.split(jax.random.key(1), 5)[member], alone, part)
    _assert_equal(alone, jax.tree.map(lambda leaf: leaf[member], states), atol=1e-6)


def test_members_one_by_one_equal_members_side_by_side():
    """On CPUs convolutions of members follow one another; the numbers are the same."""
    layers = (Conv("conv", 2), Flatten(), Dense("predictions", CLASSES))
    model = chain.as_model(chain.Chain(layers))
    base, together = (_build(n, optax.sgd(0.1), model) for n in ("point", "ensemble(point)"))
    images = jax.random.normal(jax.random.key(4), (5, 4, 4, 4, 3))
    batch = Batch(images, jnp.arange(20).reshape(5, 4) % CLASSES)
    state = jax.jit(together.init)(jax.random.key(0), images[0, :1])
    joined = Batch(images.reshape(20, 4, 4, 3), batch.labels.reshape(20))
    one_by_one, _ = jax.jit(together.step)(jax.random.key(1), state, joined)
    keys = jax.random.split(jax.random.key(1), 5)
    side_by_side, _ = jax.jit(jax.vmap(base.step))(keys, state, batch)
    _assert_equal(one_by_one, side_by_side, atol=1e-5)


def test_members_are_shared_out_where_that_comes_out_even():
    mesh = data_mesh()
    state = jax.jit(_build("ensemble(point, num_members=8)").init)(jax.random.key(0), IMAGES[:1])
    kernel = place(state, 8, mesh).params["hidden"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(1, 2, 16)}
    assert place(state, 5, mesh).params["hidden"]["kernel"].sharding.is_fully_replicated
