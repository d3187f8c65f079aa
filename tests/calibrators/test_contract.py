"""What every calibrator promises: a distribution in float64, finite, from validation alone."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from research.calibrators.fit import calibrate, calibrator_names
from research.metrics.calibration import ece
from research.metrics.scores import scores

CASES = [
    (name, num_classes)
    for name in calibrator_names()
    for num_classes in (2, 5)
    if (name, num_classes) != ("platt", 5)
]
everyone = pytest.mark.parametrize(("name", "num_classes"), CASES)


def _check(log_probs, shape):
    assert log_probs.dtype == np.float64
    assert log_probs.shape == shape
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(logsumexp(log_probs, axis=-1), 0.0, atol=1e-12)


@everyone
def test_draws_become_finite_distributions_and_the_nll_falls(name, num_classes, distorted):
    log_probs, labels = distorted(0, 2000, 0.4, np.zeros(num_classes))
    noise = 0.3 * np.random.default_rng(1).normal(size=(3, *log_probs.shape[1:]))
    draws = log_softmax(log_probs + noise, axis=-1).astype(np.float32)
    calibrator = calibrate(name, draws[:, :1000], labels[:1000])
    mapped = calibrator.apply(draws[:, 1000:])
    _check(mapped, (3 if name == "temperature" else 1, 1000, num_classes))
    before, after = scores(draws[:, 1000:], labels[1000:]), scores(mapped, labels[1000:])
    gain = before.nll - after.nll  # image by image
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
    fitted = calibrator.fitted
    assert fitted["nll_after"] < fitted["nll_before"]
    assert json.loads(json.dumps(fitted, allow_nan=False)) == fitted


@everyone
def test_saturated_predictions_and_zeros_stay_finite(name, num_classes):
    """99 % right, all at 1 - 1e-9 or surer in float32; the test split has probabilities of 0."""
    generator = np.random.default_rng(2)
    labels = generator.integers(0, num_classes, 300)
    answers = np.where(np.arange(300) < 3, (labels + 1) % num_classes, labels)
    logits = generator.normal(size=(300, num_classes))
    logits[np.arange(300), answers] += generator.uniform(25, 90, 300)
    log_probs = log_softmax(logits.astype(np.float32), axis=1)[None]
    calibrator = calibrate(name, log_probs, labels)
    assert calibrator.fitted["nll_after"] < calibrator.fitted["nll_before"]
    certain = np.where(np.eye(num_classes, dtype=bool), 0.0, -np.inf)[None]
    for split in (log_probs, certain, np.full((1, 4, num_classes), -np.log(num_classes))):
        _check(calibrator.apply(split), split.shape)


@everyone
def test_zeros_in_the_validation_split_stay_finite(name, num_classes):
    labels = np.arange(40) % num_classes
    answers = np.where(np.arange(40) < 4, (labels + 1) % num_classes, labels)
    log_probs = np.where(np.eye(num_classes, dtype=bool)[answers], 0.0, -np.inf)[None]
    calibrator = calibrate(name, log_probs, labels)
    assert calibrator.fitted["nll_before"] is None
    assert calibrator.fitted["nll_after"] < np.log(num_classes)
    _check(calibrator.apply(log_probs), log_probs.shape)


@everyone
def test_separable_one_sided_and_single_validation_sets_stay_finite(name, num_classes):
    labels = np.arange(30) % num_classes
    log_probs = log_softmax(10.0 * np.eye(num_classes)[labels], axis=1)[None]
    for used in (slice(None), labels == 1, slice(1)):
        calibrator = calibrate(name, log_probs[:, used], labels[used])
        _check(calibrator.apply(log_probs), log_probs.shape)
        if name in ("temperature", "vector"):
            assert calibrator.fitted["separable"]
            np.testing.assert_allclose(calibrator.apply(log_probs), log_probs, atol=1e-12)
        else:  # no more is claimed than so few examples without a mistake show
            assert np.exp(calibrator.apply(log_probs[:, used])).max() <= 31 / 32


@everyone
def test_the_order_of_validation_examples_does_not_matter(name, num_classes, distorted):
    log_probs, labels = distorted(3, 300, 0.5, np.zeros(num_classes))
    order = np.random.default_rng(4).permutation(300)
    one = calibrate(name, log_probs, labels).apply(log_probs)
    other = calibrate(name, log_probs[:, order], labels[order]).apply(log_probs)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, num_classes in CASES if num_classes == 5])
def test_a_real_vgg16_is_calibrated_and_keeps_its_accuracy(name, shared_data):
    with np.load(shared_data / "vgg16_cifar10_test_probs.npz") as file:
        labels, log_probs = file["labels"][:4000], np.log(file["probs"][None, :4000])
    mapped = calibrate(name, log_probs[:, :2000], labels[:2000]).apply(log_probs[:, 2000:])
    before, after = scores(log_probs[:, 2000:], labels[2000:]), scores(mapped, labels[2000:])
    assert after.nll.mean() < before.nll.mean()
    assert ece(after.confidence, after.correct) < 0.75 * ece(before.confidence, before.correct)
    changed = after.correct != before.correct
    # McNemar: changed answers are as often right as wrong, but for three standard errors.
    lost = np.sum(before.correct[changed])
    assert lost <= changed.sum() / 2 + 3 * np.sqrt(changed.sum()) / 2
