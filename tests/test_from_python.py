"""The examples of research/README.md run as they stand there, and `import research` is quick."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import research
import research.methods
from research.models.layers import Conv, Dense, Flatten
from research.runtime.errors import UserError
from research.training.fit import TrainingOptions

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.search(
    "^## From Python$(.*?)^## ", (ROOT / "research/README.md").read_text(), re.DOTALL | re.MULTILINE
).group(1)
BLOCKS = re.findall("```python\n(.*?)```", SECTION, re.DOTALL)
FEW = TrainingOptions(epochs=2, batch_size=8)


def _blobs(n, seed):
    """Two overlapping classes in the plane."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    return random.normal(size=(n, 2)) + 3 * labels[:, None], labels


def _arrays():
    """What the examples take as given."""
    features, labels = _blobs(80, 0)
    new_features, new_labels = _blobs(40, 1)
    probs = np.stack([1 - labels, labels], axis=1) * 0.8 + 0.1
    return {
        "features": features,
        "labels": labels,
        "new_features": new_features,
        "new_labels": new_labels,
        "probs": probs,
    }


def test_the_examples_run_in_at_most_ten_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(research.methods, "__path__", [*research.methods.__path__, str(tmp_path)])
    for block in BLOCKS:
        lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
        new_file = re.match(r"# research/methods/(\w+\.py)\n", block)
        if new_file:
            (tmp_path / new_file.group(1)).write_text(block)
        else:
            assert len(lines) <= 10
            exec(compile(block, "research/README.md", "exec"), _arrays())
    printed = capsys.readouterr().out
    assert "Accuracy" in printed
    assert "(10, 40, 2)" in printed
    monkeypatch.delitem(sys.modules, "research.methods.noisy")


def test_importing_the_library_is_quick():
    code = "import sys, research; print(sorted({'jax', 'numpy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = research.nothing


def test_kinds_of_predictions_give_the_same_numbers():
    given = _arrays()
    probs, labels = given["probs"], given["labels"]
    wanted = research.evaluate(probs, labels)
    assert wanted["accuracy"].value == 1.0
    assert wanted["mean_confidence"].value == pytest.approx(0.9)
    for kind, values in (("log_probs", np.log(probs)), ("logits", np.log(probs) + 3.0)):
        found = research.evaluate(np.stack([values, values]), labels, kind=kind)
        assert found["nll"].value == pytest.approx(wanted["nll"].value)
    assert "<td>Accuracy</td><td>100 %" in wanted._repr_html_()
    with pytest.raises(UserError, match="give probs, log_probs or logits"):
        research.evaluate(probs, labels, kind="scores")


def test_a_method_fitted_to_features_is_right_and_the_seed_decides():
    given = _arrays()
    options = TrainingOptions(epochs=30, batch_size=8, learning_rate=1e-2)
    fits = [
        research.fit("point", given["features"], given["labels"], options=options, seed=seed)
        for seed in (0, 0, 1)
    ]
    probs = [method.predict_proba(given["new_features"]) for method in fits]
    assert np.mean(probs[0].argmax(axis=1) == given["new_labels"]) > 0.9
    np.testing.assert_allclose(probs[0].sum(axis=1), 1)
    np.testing.assert_array_equal(probs[0], probs[1])
    assert np.abs(probs[0] - probs[2]).max() > 1e-3


def test_calibrators_are_fitted_to_the_given_validation_rows():
    """Their labels are swapped: calibrated predictions are right about them far more often."""
    given = _arrays()
    train = given["features"], given["labels"]
    swapped = given["new_features"], 1 - given["new_labels"]
    nll = {}
    for recipe in ("point", "platt(point)"):
        method = research.fit(recipe, *train, valid=swapped, options=FEW)
        nll[recipe] = research.evaluate(method.predict_proba(swapped[0]), swapped[1])["nll"].value
    assert nll["platt(point)"] < 0.9 * nll["point"]


def _images(n):
    """Dark and bright ones."""
    labels = np.arange(n) % 2
    bright = np.uint8(100) * labels[:, None, None].astype(np.uint8)
    return np.random.default_rng(0).integers(0, 100, (n, 32, 32), np.uint8) + bright, labels


def test_images_and_a_network_of_ones_own(tmp_path):
    images, labels = _images(16)
    layers = Conv("conv", 2, strides=(8, 8)), Flatten(), Dense("predictions", 2)
    method = research.fit("point", images, labels, layers=layers, options=FEW, directory=tmp_path)
    assert method.predict(images[:3]).shape == (1, 3, 2)
    assert (tmp_path / "point" / "metrics.jsonl").exists()
    with pytest.raises(UserError, match="give images"):
        method.predict(images.astype(np.float32))


@pytest.mark.slow
def test_images_get_a_small_vgg16():
    images, labels = _images(16)
    method = research.fit("point", images, labels, options=FEW.replace(epochs=1))
    assert "block5_conv3" in method.fitted.state.params
    assert method.predict(images[:3]).shape == (1, 3, 2)
