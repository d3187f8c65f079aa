import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from research.metrics.proper import (
    brier,
    brier_reliability,
    brier_resolution,
    brier_uncertainty,
    nll,
)


def test_nll_against_scikit_learn(smooth):
    s = smooth.scores
    expected = log_loss(smooth.labels, s.probs, labels=range(4))
    np.testing.assert_allclose(nll(s.nll), expected, rtol=1e-9)


def test_brier_against_scikit_learn(binary):
    s = binary.scores
    # scikit-learn counts one of the two classes, so half.
    expected = 2 * brier_score_loss(binary.labels, s.probs[:, 1])
    np.testing.assert_allclose(brier(s.probs, s.labels), expected, rtol=1e-12)


def test_brier_by_hand():
    probs = np.array([[1.0, 0.0, 0.0], [0.5, 0.3, 0.2]])
    assert brier(probs, np.array([1, 0])) == pytest.approx((2 + 0.25 + 0.09 + 0.04) / 2)


def slow_decomposition(probs, labels, num_bins=15):
    """Reliability and generalised resolution from their definitions, one bin at a time."""
    num_examples, num_classes = probs.shape
    reliability = resolution = 0.0
    for k in range(num_classes):
        p, y = probs[:, k], (labels == k).astype(float)
        for m in range(num_bins):
            inside = (p > m / num_bins + 1e-6) & (p <= (m + 1) / num_bins + 1e-6)
            if m == 0:
                inside |= p <= 1e-6
            if not inside.any():
                continue
            pb, yb = p[inside], y[inside]
            reliability += len(pb) * (pb.mean() - yb.mean()) ** 2
            resolution += len(pb) * (yb.mean() - y.mean()) ** 2
            resolution -= np.sum((pb - pb.mean()) ** 2)
            resolution += 2 * np.sum((pb - pb.mean()) * (yb - yb.mean()))
    return reliability / num_examples, resolution / num_examples


def test_decomposition_against_a_slow_loop(sample):
    s = sample.scores
    reliability, resolution = slow_decomposition(s.probs, s.labels)
    np.testing.assert_allclose(brier_reliability(s.probs, s.labels), reliability, rtol=1e-10)
    np.testing.assert_allclose(brier_resolution(s.probs, s.labels), resolution, rtol=1e-10)


def test_decomposition_adds_up(sample):
    s = sample.scores
    parts = (
        brier_reliability(s.probs, s.labels)
        - brier_resolution(s.probs, s.labels)
        + brier_uncertainty(s.labels, s.probs.shape[1])
    )
    assert abs(parts - brier(s.probs, s.labels)) < 1e-12


def test_uncertainty_by_hand():
    assert brier_uncertainty(np.array([0, 0, 0, 1]), 3) == pytest.approx(2 * 0.75 * 0.25)
