"""Minibatches inside a program: whole permutations, keys by number, and the state that is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data.epochs import (
    method_step,
    numbered_keys,
    scan_batches,
    scan_epochs,
    shuffled_batches,
)
from research.method import Batch
from research.methods.mc_dropout import mc_dropout
from research.models import chain
from research.models.layers import Dense, Dropout

KEY = jax.random.key(3)


def test_an_epoch_is_a_permutation_cut_into_full_batches():
    batches = shuffled_batches(KEY, 11, 3)
    assert batches.shape == (3, 3)
    np.testing.assert_array_equal(batches.ravel(), jax.random.permutation(KEY, 11)[:9])


def test_each_member_has_an_order_of_its_own():
    keys = jax.random.split(KEY, 2)
    both = shuffled_batches(keys, 7, 3)
    assert both.shape == (2, 6)
    for number, key in enumerate(keys):
        mine = both[:, 3 * number : 3 * (number + 1)]
        np.testing.assert_array_equal(mine, shuffled_batches(key, 7, 3))


def test_keys_go_by_the_number_of_the_step():
    keys = jax.random.key_data(numbered_keys(KEY, 5, 2))
    for number, key in enumerate(keys, start=5):
        np.testing.assert_array_equal(key, jax.random.key_data(jax.random.fold_in(KEY, number)))


def test_a_scan_equals_a_loop():
    layers = Dense("h", 4, "relu"), Dropout(0.5), Dense("predictions", 2)
    method = mc_dropout(chain.as_model(chain.Chain(layers)), optax.sgd(0.1), num_samples=2)
    generator = np.random.default_rng(0)
    images = generator.normal(size=(10, 3)).astype(np.float32)
    data = Batch(jnp.asarray(images), jnp.asarray(generator.integers(0, 2, 10), jnp.int32))
    begin = method.init(KEY, data.images[:1])
    keys, batches = numbered_keys(KEY, 0, 3), shuffled_batches(KEY, 10, 3)
    scanned, losses = jax.jit(
        lambda: scan_batches(method_step(method, data), begin, keys, batches)
    )()

    state, step = begin, jax.jit(method.step)
    for number, indices in enumerate(batches):
        batch = Batch(data.images[indices], data.labels[indices])
        state, metrics = step(keys[number], state, batch)
        np.testing.assert_allclose(losses[number], metrics["loss"], rtol=1e-5)
    for one, other in zip(jax.tree.leaves(scanned), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_best_state_is_kept_and_a_nan_is_never_the_best():
    heights = jnp.array([3.0, 1.0, jnp.nan, 2.0])

    def step(key, state, indices):
        del key
        return state + 1, jnp.float32(indices.sum())

    def plan(number):
        return jax.random.split(jax.random.fold_in(KEY, number), 2), jnp.ones((2, 1), int) * number

    def evaluate(state):
        return {"height": heights[state // 2 - 1]}

    scanned = scan_epochs(step, jnp.int32(0), plan, 4, evaluate, "height")
    assert (int(scanned.last), int(scanned.best)) == (8, 4)
    np.testing.assert_array_equal(scanned.history["height"], heights)
    np.testing.assert_array_equal(scanned.history["loss"], [0, 1, 2, 3])
