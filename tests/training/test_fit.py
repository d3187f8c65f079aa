"""From a recipe to a trained method: folders, starting points, and nothing trained twice."""

import jax
import numpy as np
import pytest

from research.data.dataset import Dataset, Split
from research.method import predict
from research.models import chain
from research.models.layers import Dense, Dropout
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.run import Run
from research.training.fit import Problem, TrainingOptions, fit
from research.training.recipe import parse

CLASSES, OPTIONS = 3, TrainingOptions(4, 16, learning_rate=0.03, save_seconds=0.0)
LAYERS = (Dense("hidden", 8, "relu"), Dropout(0.1), Dense("predictions", CLASSES))
MODEL = chain.as_model(chain.Chain(LAYERS))


@pytest.fixture(scope="module")
def dataset():
    """Three blobs in the plane."""
    generator = np.random.default_rng(0)

    def split(n):
        labels = (np.arange(n) % CLASSES).astype(np.int32)
        centres = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
        points = (centres[labels] + generator.normal(size=(n, 2))).astype(np.float32)
        return Split(points, labels, np.arange(n).astype(str))

    return Dataset("blobs", ("a", "b", "c"), split(64), split(32), split(32))


def _fit(text, dataset, directory, params=None, options=OPTIONS):
    run, problem = Run(directory, data_mesh(), 0), Problem(MODEL, dataset, params)
    return fit(jax.random.key(0), parse(text)[0], problem, options, run)


def _same(one, two):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )


def test_what_starts_from_the_point_network_has_it_trained_once(dataset, tmp_path):
    dropout = _fit("mc_dropout(num_samples=2)", dataset, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["point"]
    assert dropout.steps == 0
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("metrics.jsonl")}
    point = _fit("point", dataset, tmp_path)
    tempered = _fit("temperature(point)", dataset, tmp_path)
    assert point.steps == tempered.steps == 16
    assert point.seconds > 0
    assert _same(dropout.state.params, point.state.params)
    assert _same(tempered.state, point.state)
    assert str(tempered.recipe) == "temperature(point)"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["point"]
    assert {p: p.read_text().count("\n") for p in stamps} == dict.fromkeys(stamps, 4)


def test_an_ensemble_starts_each_member_from_its_own_point(dataset, tmp_path):
    fitted = _fit("ensemble(mc_dropout(num_samples=2), num_members=2)", dataset, tmp_path)
    points = _fit("ensemble(point, num_members=2)", dataset, tmp_path)
    assert _same(fitted.state.params, points.state.params)
    kernels = np.asarray(points.state.params["hidden"]["kernel"])
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    draws = predict(fitted.method, jax.random.key(0), fitted.state, dataset.test.images)
    assert draws.shape == (4, 32, CLASSES)


def test_given_weights_are_the_point_network(dataset, tmp_path):
    params = jax.tree.map(np.asarray, MODEL.init(jax.random.key(5), dataset.test.images))
    assert _same(_fit("point", dataset, tmp_path, params).state.params, params)
    further = _fit("mc_dropout(epochs=1)", dataset, tmp_path, params)
    assert further.steps == 16
    assert not _same(further.state.params, params)


def test_the_last_state_is_kept_where_the_method_wants_it(dataset, tmp_path):
    hot = OPTIONS.replace(learning_rate=1.0, schedule="constant", patience=1)
    last = _fit("point(keep=last)", dataset, tmp_path, options=hot)
    assert last.steps == last.best_step == 16


def test_a_diverged_training_names_its_recipe(dataset, tmp_path):
    with pytest.raises(UserError, match=r"^point: training diverged.*give a smaller learning_rate"):
        _fit("point", dataset, tmp_path, options=OPTIONS.replace(learning_rate=1e30))
