"""SWAG: moments, and draws with these moments, against numpy on recorded iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.method import Batch
from research.methods.swag import collect, draw_weights, nothing_collected, swag, variances
from research.models import chain
from research.models.layers import Dense
from research.runtime.errors import UserError

DRAWS = 20_000


def _snapshots(count, scale=1.0, centre=0.0):
    """A path whose four weights have unlike variances and are correlated."""
    mix = np.array([[1.0, 0.0, 0.0, 0.0], [0.8, 0.5, 0, 0], [0, 0, 2.0, 0], [0.3, 0, 1.0, 0.1]])
    noise = np.random.default_rng(1).normal(size=(count, 4))
    return (centre + scale * noise @ mix.T).astype(np.float32)


def _tree(weights):
    """Two leaves of different shape."""
    return {"a": {"kernel": weights[..., :2].reshape(*weights.shape[:-1], 1, 2)}, "b": weights[2:]}


def _collected(snapshots, rank):
    collected = nothing_collected(_tree(jnp.asarray(snapshots[0])), rank)
    path = jax.vmap(_tree)(jnp.asarray(snapshots))
    return jax.lax.scan(lambda so_far, x: (collect(so_far, x), None), collected, path)[0]


def _flat(tree, leading=0):
    leaves = (tree["a"]["kernel"], tree["b"])
    return np.concatenate([np.reshape(x, (*x.shape[:leading], -1)) for x in leaves], axis=-1)


def _deviations(snapshots):
    """Of each snapshot from the mean of those up to it, as the paper's algorithm 1 stores them."""
    snapshots = snapshots.astype(np.float64)
    return np.array([x - snapshots[: i + 1].mean(0) for i, x in enumerate(snapshots)])


def _covariance_of_draws(collected):
    """Sample mean [4] and covariance [4, 4] of the draws."""
    keys = jax.random.split(jax.random.key(0), DRAWS)
    draw = jax.jit(jax.vmap(draw_weights, in_axes=(0, None)))
    draws = _flat(draw(keys, collected), leading=1)
    return draws.mean(0), np.cov(draws.T)


def _check_draws(collected, mean, covariance):
    """Five standard errors: those of a Gaussian sample's mean and covariance."""
    found_mean, found = _covariance_of_draws(collected)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(found_mean - mean), 5 * spread / np.sqrt(DRAWS))
    error = np.sqrt((np.outer(spread, spread) ** 2 + covariance**2) / DRAWS)
    np.testing.assert_array_less(np.abs(found - covariance), 5 * error)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_mean_variance_and_deviations_are_those_of_numpy(count):
    snapshots = _snapshots(count)
    collected = _collected(snapshots, rank=5)
    assert int(collected.count) == count
    np.testing.assert_allclose(_flat(collected.mean), snapshots.mean(0), atol=1e-6)
    np.testing.assert_allclose(_flat(variances(collected)), snapshots.var(0), atol=1e-5)
    last = _deviations(snapshots)[-5:]
    stored = _flat(collected.deviations, leading=1)
    for deviation in last:
        assert np.abs(stored - deviation).max(axis=1).min() < 1e-5
    np.testing.assert_allclose((stored**2).sum(), (last**2).sum(), rtol=1e-5)


def test_a_snapshot_that_is_not_taken_changes_nothing():
    before = _collected(_snapshots(4), rank=3)
    after = collect(before, _tree(jnp.full(4, jnp.nan)), take=jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize("count", [6, 30])  # the ring just full, and gone round
def test_pitfall_17_half_of_the_covariance_is_diagonal_and_half_of_low_rank(count):
    snapshots = _snapshots(count)
    deviations = _deviations(snapshots)[-6:]
    covariance = np.diag(snapshots.var(0)) / 2 + deviations.T @ deviations / (2 * 5)
    _check_draws(_collected(snapshots, rank=6), snapshots.mean(0), covariance)


def test_pitfall_18_low_rank_is_divided_by_the_number_stored_minus_one():
    snapshots = _snapshots(3)
    deviations = _deviations(snapshots)
    covariance = np.diag(snapshots.var(0)) / 2 + deviations.T @ deviations / (2 * 2)
    _check_draws(_collected(snapshots, rank=20), snapshots.mean(0), covariance)


def test_rank_0_has_the_whole_diagonal():
    snapshots = _snapshots(9)
    _check_draws(_collected(snapshots, rank=0), snapshots.mean(0), np.diag(snapshots.var(0)))


def test_small_variance_of_a_large_weight_is_not_rounding_error():
    snapshots = _snapshots(50, scale=0.01, centre=100.0)
    exact = snapshots.astype(np.float64).var(0)
    found = _flat(variances(_collected(snapshots, rank=0)))
    np.testing.assert_allclose(found, exact, rtol=0.02)
    published = (snapshots**2).mean(0) - snapshots.mean(0) ** 2
    assert np.abs(published - exact).max() > 0.5 * exact.max(), "the case is too easy"


@pytest.fixture(scope="module")
def run():
    """20 steps of 4 an epoch, the snapshots from the fifth step on; and every step's weights."""
    model = chain.as_model(chain.Chain((Dense("predictions", 3),)))
    images = jax.random.normal(jax.random.key(0), (8, 2))
    batch = Batch(images, jnp.arange(8) % 3)
    options = {"num_steps": 20, "steps_per_epoch": 4}
    method = swag(model, optax.sgd(0.5), **options, num_samples=3, rank=4, collect_from=0.2)
    mean_only = swag(model, optax.sgd(0.5), **options, num_samples=0)
    state, path, step = method.init(jax.random.key(1), images), [], jax.jit(method.step)
    for number in range(20):
        state, _ = step(jax.random.key(number), state, batch)
        path.append(state)
    return method, mean_only, path


def test_snapshots_are_taken_once_an_epoch_after_the_start(run):
    path = run[2]
    taken = [7, 11, 15, 19]  # after steps 8, 12, 16 and 20: an epoch each, from step 4
    assert [int(s.collected.count) for s in path] == [sum(t <= i for t in taken) for i in range(20)]
    kernels = np.array([path[i].path.params["predictions"]["kernel"] for i in taken])
    mean = path[-1].collected.mean["predictions"]["kernel"]
    np.testing.assert_allclose(mean, kernels.mean(0), atol=1e-6)


def test_before_the_first_snapshot_the_current_weights_predict(run):
    method, _, path = run
    network = jax.jit(method.draw)(jax.random.key(0), path[6], 1)
    jax.tree.map(np.testing.assert_array_equal, network, path[6].path.params)


def test_no_samples_is_swa(run):
    _, mean_only, path = run
    assert mean_only.num_draws == 1
    network = mean_only.draw(jax.random.key(0), path[-1], 0)
    jax.tree.map(np.testing.assert_array_equal, network, path[-1].collected.mean)


def test_draws_belong_to_key_and_number(run):
    method, _, path = run
    draw = jax.jit(method.draw)
    drawn = [
        np.asarray(draw(jax.random.key(k), path[-1], i)["predictions"]["kernel"])
        for k, i in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    np.testing.assert_array_equal(drawn[0], drawn[3])
    assert np.abs(drawn[0] - drawn[1]).max() > 0
    assert np.abs(drawn[0] - drawn[2]).max() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"rank": -1},
        {"rank": 1},
        {"rank": 2.5},
        {"num_samples": -1},
        {"collect_from": 1.0},
        {"collect_from": "late"},
        {"every": 0},
        {"every": 15},
    ],
)
def test_options_out_of_range_are_errors(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"^swag\({name}={value}\): [^\n]+$"):
        swag(None, optax.sgd(0.1), num_steps=20, steps_per_epoch=4, **options)
