import numpy as np
import pytest

from research.metrics.confidence import (
    accuracy,
    confidence_on_errors,
    mean_confidence,
    mean_entropy,
    overconfidence,
    share_above,
    share_identical,
)

CONFIDENCE = np.array([1.0, 1.0, 0.9999995, 0.9])
CORRECT = np.array([True, False, True, False])


def test_by_hand():
    assert accuracy(CORRECT) == 0.5
    assert mean_confidence(CONFIDENCE) == pytest.approx(3.8999995 / 4)
    assert overconfidence(CONFIDENCE, CORRECT) == pytest.approx(3.8999995 / 4 - 0.5)
    assert confidence_on_errors(CONFIDENCE, CORRECT) == pytest.approx(0.95)
    assert mean_entropy(np.array([0.0, 0.5])) == 0.25


def test_no_errors_have_no_confidence():
    assert np.isnan(confidence_on_errors(CONFIDENCE, np.ones(4, bool)))


@pytest.mark.parametrize(("threshold", "share"), [(0.9, 0.75), (0.99, 0.75), (0.9999996, 0.5)])
def test_share_above_is_strict(threshold, share):
    assert share_above(CONFIDENCE, threshold) == share


def test_share_identical_counts_what_a_person_sees():
    assert share_identical(CONFIDENCE) == 0.5
    # In float32, 1 - 1e-9 is 1.
    assert share_identical(np.array([1.0, 1 - 1e-9, 0.5])) == pytest.approx(2 / 3)
    assert share_identical(np.array([0.25, 0.5, 0.75])) == pytest.approx(1 / 3)
