import numpy as np
import pytest

from research.metrics.confidence import average, confidence_on_errors, share_identical

CONFIDENCE = np.array([1.0, 1.0, 0.9999995, 0.9])
CORRECT = np.array([True, False, True, False])


def test_by_hand():
    assert average(CORRECT) == 0.5
    assert average(CONFIDENCE) == pytest.approx(3.8999995 / 4)
    assert average(CONFIDENCE, weights=np.array([[0, 0, 0, 4], [1, 1, 0, 2]])) == pytest.approx(
        [0.9, 0.95]
    )
    assert confidence_on_errors(CONFIDENCE, CORRECT) == pytest.approx(0.95)


def test_no_errors_have_no_confidence():
    assert np.isnan(confidence_on_errors(CONFIDENCE, np.ones(4, bool)))


def test_share_identical_counts_what_a_person_sees():
    assert share_identical(CONFIDENCE) == 0.5
    # In float32, 1 - 1e-9 is 1.
    assert share_identical(np.array([1.0, 1 - 1e-9, 0.5])) == pytest.approx(2 / 3)
    assert share_identical(np.array([0.25, 0.5, 0.75])) == pytest.approx(1 / 3)
