"""Vector scaling: the one optimum of its objective, and a known scale and bias found again."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from research.calibrators.temperature import fit_temperature
from research.calibrators.vector import vector


def _theta(fitted):
    return np.concatenate([fitted["scale"], fitted["bias"]])


def _information(x, theta):
    """The Fisher information [2K, 2K] of (w, b) in softmax(w * x + b), summed over x [N, K]."""
    num_classes = x.shape[1]
    probs = softmax(theta[:num_classes] * x + theta[num_classes:], axis=1)
    total = 0.0
    for row, p in zip(x, probs, strict=True):
        design = np.hstack([np.diag(row), np.eye(num_classes)])  # [K, 2K]
        total = total + design.T @ (np.diag(p) - np.outer(p, p)) @ design
    return total


def test_a_known_scale_and_bias_are_recovered(distorted):
    scale, bias = np.array([0.3, 0.5, 0.8]), np.array([1.0, -0.5, -0.5])
    log_probs, labels = distorted(0, 4000, scale, bias)
    off = _theta(vector(log_probs, labels).fitted) - np.concatenate([scale, bias])
    # The prior's own pull is part of what may be off: it is 1 against the information.
    covariance = np.linalg.inv(
        _information(log_probs[0], np.concatenate([scale, bias])) + np.eye(6)
    )
    assert (np.abs(off) < 4 * np.sqrt(np.diag(covariance))).all()


@pytest.mark.parametrize("num_classes", [2, 5])
def test_the_fit_is_where_the_gradient_is_zero(num_classes, distorted):
    bias = np.linspace(-1, 1, num_classes)
    log_probs, labels = distorted(1, 400, 0.5, bias)
    fitted = vector(log_probs, labels).fitted
    theta, x = _theta(fitted), log_probs[0]
    centre = np.repeat([1 / fit_temperature(log_probs, labels).temperature, 0.0], num_classes)

    def objective(theta):
        log_q = log_softmax(theta[:num_classes] * x + theta[num_classes:], axis=1)
        return -log_q[np.arange(len(x)), labels].sum() + np.sum((theta - centre) ** 2) / 2

    steps = 1e-4 * np.eye(2 * num_classes)
    gradient = [(objective(theta + s) - objective(theta - s)) / 2e-4 for s in steps]
    newton = np.linalg.solve(_information(x, theta) + np.eye(2 * num_classes), gradient)
    np.testing.assert_allclose(newton, 0.0, atol=1e-5)  # the step that is left
    assert (np.array(fitted["scale"]) > 0).all()


def test_a_bias_mends_a_class_that_is_answered_too_often(distorted):
    log_probs, labels = distorted(2, 2000, 1.0, np.array([-2.0, 0.0, 0.0]))
    mapped = vector(log_probs[:, :1000], labels[:1000]).apply(log_probs[:, 1000:])
    before, after = (x[0].argmax(axis=1) == labels[1000:] for x in (log_probs[:, 1000:], mapped))
    changed = before != after
    # McNemar: of the answers that changed between right and wrong, more than half became right.
    assert np.sum(after[changed]) > changed.sum() / 2 + 2 * np.sqrt(changed.sum()) / 2


def test_a_class_without_examples_is_held_by_the_prior(distorted):
    log_probs, labels = distorted(3, 300, 0.5, np.array([0.0, 0.0, 0.0, -50.0]))
    fitted = vector(log_probs, labels).fitted
    assert not np.any(labels == 3)
    assert -10 < fitted["bias"][3] < -1


def test_worse_than_guessing_still_has_a_fit():
    labels = np.arange(30) % 3
    log_probs = log_softmax(-10.0 * np.eye(3)[labels], axis=1)[None]
    calibrator = vector(log_probs, labels)
    assert min(calibrator.fitted["scale"]) == 0.0  # never turned upside down
    np.testing.assert_allclose(np.exp(calibrator.apply(log_probs)), 1 / 3, atol=1e-2)
