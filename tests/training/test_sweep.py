"""Many trainings as one: each run is what it would be alone, and a kill changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from research.method import Batch
from research.methods.bayes_by_backprop import bayes_by_backprop
from research.methods.point import point
from research.models import chain
from research.models.layers import Dense
from research.runtime import checkpoint
from research.runtime.errors import UserError
from research.training.sweep import Data, SweepPlan, sweep

GENERATOR = np.random.default_rng(0)
MODEL = chain.as_model(chain.Chain((Dense("h", 8, "relu"), Dense("predictions", 3))))
PLAN = SweepPlan(epochs=4, batch_size=10, evaluate_every=2, keep_by="nll", save_seconds=0.0)
ONE = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
EIGHT = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


def _split(count):
    labels = GENERATOR.integers(0, 3, count).astype(np.int32)
    images = np.eye(3)[labels] + 0.5 * GENERATOR.normal(size=(count, 3))
    return Batch(images.astype(np.float32), labels)


DATA = Data(_split(65), _split(30), _split(30))


def build(hyper):
    return point(MODEL, optax.sgd(hyper["learning_rate"]))


def evaluate(method, key, state, split):
    log_probs = method.apply(method.draw(key, state, 0), split.images)
    return {"nll": -jnp.mean(jnp.take_along_axis(log_probs, split.labels[:, None], axis=-1))}


def run(directory, rates, seeds, mesh=ONE, plan=PLAN, build=build):
    hypers = {"learning_rate": np.array(rates)}
    return sweep(build, hypers, np.array(seeds), evaluate, DATA, plan, directory, mesh)


def test_a_run_of_many_is_the_run_alone(tmp_path):
    together = run(tmp_path / "all", [0.1, 0.5, 0.1], [0, 1, 2])
    for number, (rate, seed) in enumerate([(0.1, 0), (0.5, 1), (0.1, 2)]):
        alone = run(tmp_path / str(number), [rate], [seed])
        for one, many in zip(
            jax.tree.leaves(alone.last), jax.tree.leaves(together.last), strict=True
        ):
            np.testing.assert_allclose(one[0], many[number], rtol=1e-5, atol=1e-6)


def test_eight_devices_equal_one(tmp_path):
    one = run(tmp_path / "one", [0.1, 0.5, 0.2], [0, 1, 2])
    eight = run(tmp_path / "eight", [0.1, 0.5, 0.2], [0, 1, 2], EIGHT)
    for a, b in zip(jax.tree.leaves(one.last), jax.tree.leaves(eight.last), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert eight.history["valid_nll"].shape == (2, 3)


def test_a_sweep_that_was_killed_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", [0.1, 0.5], [0, 1])
    save = checkpoint.save

    def save_and_die(checkpoints, epoch, state):
        save(checkpoints, epoch, state)
        if epoch == 3:
            raise MemoryError

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    with pytest.raises(MemoryError):
        run(tmp_path / "cut", [0.1, 0.5], [0, 1])
    monkeypatch.undo()
    rest = run(tmp_path / "cut", [0.1, 0.5], [0, 1])
    again = run(tmp_path / "whole", [0.1, 0.5], [0, 1])
    assert again.seconds == whole.seconds  # nothing was trained
    for other in (rest, again):
        for a, b in zip(
            jax.tree.leaves(whole._replace(seconds=0.0)),
            jax.tree.leaves(other._replace(seconds=0.0)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_the_best_state_is_that_of_the_lowest_number(tmp_path):
    swept = run(tmp_path, [0.5, 20.0], [0, 1])
    rows = np.argmin(swept.history["valid_nll"], axis=0)
    np.testing.assert_array_equal(swept.best_epoch, swept.epochs[rows])
    np.testing.assert_array_equal(swept.epochs, [2, 4])


def test_numbers_of_bayes_by_backprop_can_be_swept(tmp_path):
    def bayes(hyper):
        return bayes_by_backprop(
            MODEL, optax.sgd(0.1), 65, 6, 24, prior="mixture", estimator="shared", **hyper
        )

    hypers = {
        "mixture_pi": np.array([0.25, 0.75]),
        "mixture_sigma_1": np.array([1.0, 0.5]),
        "mixture_sigma_2": np.array([0.01, 0.001]),
        "initial_sigma": np.array([0.1, 0.5]),
        "beta": np.array([1.0, 0.1]),
    }
    swept = sweep(bayes, hypers, np.zeros(2, int), evaluate, DATA, PLAN, tmp_path, ONE)
    sigmas = [np.mean(jax.nn.softplus(rho)) for rho in swept.last.posterior.rho["h/kernel"]]
    assert sigmas[1] > 2 * sigmas[0]


def test_one_run_that_diverges_leaves_the_others_alone(tmp_path):
    swept = run(tmp_path, [0.1, 1e20], [0, 0])
    alone = run(tmp_path / "alone", [0.1], [0])
    np.testing.assert_allclose(swept.history["valid_nll"][:, 0], alone.history["valid_nll"][:, 0])
    assert not np.isfinite(swept.history["valid_nll"][-1, 1])


def test_all_runs_diverging_is_an_error(tmp_path):
    with pytest.raises(UserError, match="every run diverged"):
        run(tmp_path, [1e20], [0])


def test_a_batch_larger_than_the_data_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^batch_size 100: there are only 65 images"):
        run(tmp_path, [0.1], [0], plan=PLAN._replace(batch_size=100))
