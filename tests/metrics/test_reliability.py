import numpy as np
import pytest
from scipy.stats import binomtest

from research.metrics.calibration import ece
from research.metrics.reliability import reliability_curve


def test_the_curve_adds_up_to_the_ece(sample):
    s = sample.scores
    curve = reliability_curve(s.confidence, s.correct)
    assert curve.count.sum() == len(s.labels)
    gaps = np.abs(curve.confidence - curve.accuracy)
    total = np.nansum(curve.count * gaps) / len(s.labels)
    assert total == pytest.approx(ece(s.confidence, s.correct), rel=1e-12)
    empty = curve.count == 0
    for field in (curve.confidence, curve.accuracy, curve.low, curve.high):
        np.testing.assert_array_equal(np.isnan(field), empty)


def test_bins_and_intervals_by_hand():
    confidence = np.array([0.5, 0.51, 0.75, 1.0, 1.0])
    correct = np.array([False, True, True, True, True])
    curve = reliability_curve(confidence, correct, bins=4)
    np.testing.assert_array_equal(curve.lower, [0, 0.25, 0.5, 0.75])
    np.testing.assert_array_equal(curve.upper, [0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(curve.count, [0, 1, 2, 2])
    np.testing.assert_allclose(curve.confidence, [np.nan, 0.5, 0.63, 1])
    np.testing.assert_array_equal(curve.accuracy, [np.nan, 0, 1, 1])
    theirs = binomtest(2, 2).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([curve.low[3], curve.high[3]], theirs, atol=1e-12)
