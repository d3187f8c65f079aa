"""Assessments from Python: arrays in, a report that shows itself out, nothing left on the disk."""

import html
import re
import tempfile

import numpy as np
import pytest

from research.assessment.assess_arrays import assess_keras, assess_predictions
from research.diagnosis import diagnose
from research.models.keras.file import import_keras_on_jax
from research.report import page
from research.runtime.errors import UserError

QUICK_CAUSES = ("double_softmax", "permuted_classes", "too_few_images", "well_calibrated")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where temporary files would lie; and only the causes that take no training."""
    monkeypatch.setattr(diagnose, "cause_names", lambda: QUICK_CAUSES)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def predictions(n=60):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, n)
    logits = random.normal(0, 2, (n, 3))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), labels


def test_predictions_are_assessed_and_shown_in_a_frame(temporary):
    probs, labels = predictions()
    assessment = assess_predictions(probs, labels, classes=["a", "b", "c"])
    test = assessment.result["methods"]["point"]["splits"]["test"]
    nll = -np.log(probs[np.arange(60), labels]).mean()
    assert test["metrics"]["nll"]["value"] == pytest.approx(nll)
    assert assessment.result["data"]["classes"] == ["a", "b", "c"]
    frame = assessment._repr_html_()
    shown = html.unescape(re.search(r'srcdoc="([^"]*)"', frame).group(1))
    assert shown == page.render(assessment.result, assessment.pictures)
    assert list(temporary.iterdir()) == []


def test_log_probs_and_probs_are_the_same_to_it():
    probs, labels = predictions()
    first = assess_predictions(probs, labels).result["methods"]
    second = assess_predictions(np.log(probs), labels, kind="log_probs").result["methods"]
    for name in ("point", "temperature"):
        one, other = (m[name]["splits"]["test"]["metrics"]["nll"] for m in (first, second))
        assert one["value"] == pytest.approx(other["value"], rel=1e-9)


def test_with_a_directory_the_files_of_a_run_are_written(tmp_path):
    probs, labels = predictions()
    split = np.repeat(["valid", "test"], 30)
    assessment = assess_predictions(probs, labels, split=split, directory=tmp_path / "run")
    assert assessment.result["data"]["counts"] == {"valid": 30, "test": 30}
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"result.json", "report.html", "predictions.npz"}


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kind": "scores"}, "choose from probs"), ({"classes": ["a", "b"]}, "3 columns")],
)
def test_arrays_that_are_no_predictions_are_one_line(change, message):
    with pytest.raises(UserError, match=message):
        assess_predictions(*predictions(), **change)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_a_keras_model_is_assessed_on_arrays(temporary, tmp_path):
    keras = import_keras_on_jax()
    image = keras.Input((32, 32, 3))
    features = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax")(features), name="mine")
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 128, (60, 32, 32, 3)) + 100 * labels[:, None, None, None]
    assessment = assess_keras(model, images.astype(np.uint8), labels, classes=["dark", "bright"])
    assert assessment.result["model"]["source"] == "mine.keras"
    assert assessment.result["data"]["counts"]["test"] > 0
    assert assessment.pictures.mean.shape == (32, 32, 3)
    assert "<iframe" in assessment._repr_html_()
    assert list(temporary.iterdir()) == []
