import json

import numpy as np
import pytest
from scipy.stats import binomtest

from research.metrics.calibration import ece
from research.metrics.reliability import LOG_EDGES, confidence_histogram, reliability_curve


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


def slow_bin(uncertainty: float) -> int:
    """The first bin whose upper edge is not below the uncertainty."""
    return next(i for i, edge in enumerate(LOG_EDGES[1:]) if uncertainty <= 10.0**edge)


def test_the_histogram_counts_as_a_slow_loop_does():
    generator = np.random.default_rng(0)
    uncertainty = 10.0 ** generator.uniform(-20, 0, 500)
    correct = generator.random(500) < 0.7
    drawn = confidence_histogram(uncertainty, correct)
    right, wrong = [0] * 9, [0] * 9
    for u, c in zip(uncertainty, correct, strict=True):
        (right if c else wrong)[slow_bin(u)] += 1
    assert (drawn["right"], drawn["wrong"]) == (right, wrong)
    json.dumps(drawn, allow_nan=False)


@pytest.mark.parametrize(
    ("uncertainty", "expected"),
    [(0.0, 0), (1e-300, 0), (1e-7, 0), (1.1e-7, 1), (0.01, 5), (0.011, 6), (0.5, 7), (1.0, 8)],
)
def test_edges_of_the_histogram(uncertainty, expected):
    drawn = confidence_histogram(np.array([uncertainty]), np.array([True]))
    assert np.flatnonzero(drawn["right"]).tolist() == [expected]
    assert sum(drawn["wrong"]) == 0
