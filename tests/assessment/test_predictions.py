"""Predictions of methods and files, and what calibrators make of them."""

import jax
import numpy as np
import optax
import pytest

from research.assessment.predictions import predict_splits, predictions_of_file
from research.calibrators.fit import calibrate, cross_calibrate
from research.data.dataset import Dataset, Split
from research.data.predictions import PredictionsFile
from research.models import chain
from research.models.layers import Dense, Dropout
from research.runtime.mesh import data_mesh
from research.training.fit import Fitted
from research.training.recipe import Context, build, parse

CLASSES = ("a", "b", "c")


def _split(seed, n):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    points = 2 * np.eye(3)[labels] + generator.normal(size=(n, 3))
    return Split(points.astype(np.float32), labels.astype(np.int32), np.arange(n).astype(str))


DATASET = Dataset("blobs", CLASSES, _split(0, 40), _split(1, 60), _split(2, 50))


def _fitted(text):
    """A method without training; dropout gives it draws."""
    (recipe,) = parse(text)
    model = chain.as_model(chain.Chain((Dropout(0.2), Dense("predictions", 3))))
    method = build(recipe, Context(model, 40, 4, 2, optax.sgd(0.1), 0.1))
    state = method.init(jax.random.key(0), DATASET.train.images[:1])
    state = state._replace(params={"predictions": {"kernel": 3 * np.eye(3), "bias": np.zeros(3)}})
    return Fitted(recipe, method, state, 0, 0, 0, 0.0)


def _predict(*texts):
    fitted = {text: _fitted(text) for text in texts}
    return predict_splits(fitted, DATASET, jax.random.key(1), 8, data_mesh())


def test_a_calibrated_method_is_its_predictions_through_the_calibrators_in_turn():
    dropout = "mc_dropout(num_samples=4)"
    found = _predict(dropout, f"temperature({dropout})", f"vector(temperature({dropout}))")
    plain, tempered, both = found.values()
    assert plain.log_probs["valid"].shape == (4, 60, 3)
    assert (plain.calibrators, plain.temperature) == ((), None)
    first = calibrate("temperature", plain.log_probs["valid"], DATASET.valid.labels)
    second = calibrate("vector", tempered.log_probs["valid"], DATASET.valid.labels)
    for split in ("train", "valid", "test"):
        wanted = first.apply(plain.log_probs[split])
        np.testing.assert_array_equal(tempered.log_probs[split], wanted)
        np.testing.assert_array_equal(both.log_probs[split], second.apply(wanted))
    assert tempered.temperature == first.fitted
    assert tempered.temperature["temperature"] > 1
    assert (both.calibrators, both.temperature) == (("temperature", "vector"), None)
    for each in (tempered, both):  # what both of them can be fitted from again
        np.testing.assert_array_equal(each.uncalibrated, plain.log_probs["valid"])


def test_calibrators_do_not_ask_the_method_again(monkeypatch):
    calls = []

    def counted(state, images):
        calls.append(None)
        return np.log(np.full((1, len(images), 3), 1 / 3))

    monkeypatch.setattr("research.assessment.predictions.predictor", lambda *_, **__: counted)
    _predict("point")
    alone = len(calls)
    _predict("point", "temperature(point)", "isotonic(point)")
    assert len(calls) == 2 * alone


@pytest.mark.parametrize("has_valid", [True, False])
def test_a_file_is_tempered_by_its_valid_rows_or_else_by_halves(has_valid):
    generator = np.random.default_rng(0)
    log_probs = jax.nn.log_softmax(4 * generator.normal(size=(80, 3)))
    labels = generator.integers(0, 3, 80)
    split = np.where(np.arange(80) < 30, "valid" if has_valid else "train", "test")
    file = PredictionsFile(
        log_probs=np.asarray(log_probs, np.float64),
        labels=labels,
        split=split,
        ids=np.arange(80).astype(str),
        classes=CLASSES,
        notes=(),
    )
    point, tempered = predictions_of_file(file, seed=5).values()
    is_test, fitted_to = split == "test", "valid" if has_valid else "test"
    fit = calibrate("temperature", point.log_probs[fitted_to], labels[split == fitted_to])
    assert tempered.temperature == fit.fitted
    if has_valid:
        wanted = fit.apply(point.log_probs["test"])
    else:
        wanted = cross_calibrate("temperature", point.log_probs["test"], labels[is_test], seed=5)
    np.testing.assert_array_equal(tempered.log_probs["test"], wanted)
