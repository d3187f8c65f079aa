import itertools

import numpy as np
import pytest

from research.metrics.selective import accuracy_at_coverage, aurc, e_aurc


def slow_aurc(wrong_in_order):
    """The mean over coverages of the share wrong among the first."""
    return np.mean([np.mean(wrong_in_order[:j]) for j in range(1, len(wrong_in_order) + 1)])


def test_aurc_against_a_slow_loop(smooth):
    s = smooth.scores
    expected = slow_aurc((~s.correct)[np.argsort(s.uncertainty)])
    assert aurc(s.uncertainty, ~s.correct) == pytest.approx(expected, rel=1e-12)


def test_ties_take_the_expected_value_over_their_orders():
    uncertainty = np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.7, 0.7])
    wrong = np.array([False, True, False, True, False, True, False])
    orders = [
        (0, *middle, *last)
        for middle in itertools.permutations(range(1, 5))
        for last in itertools.permutations((5, 6))
    ]
    expected = np.mean([slow_aurc(wrong[list(order)]) for order in orders])
    assert aurc(uncertainty, wrong) == pytest.approx(expected, rel=1e-12)
    # 3 of 7 is a coverage of 0.43, which cuts through the tied four.
    right = np.mean([1 - np.mean(wrong[list(order[:3])]) for order in orders])
    assert accuracy_at_coverage(uncertainty, wrong, 3 / 7) == pytest.approx(right, rel=1e-12)


def test_one_tie_has_the_risk_of_the_whole():
    wrong = np.arange(50) < 10
    assert aurc(np.zeros(50), wrong) == pytest.approx(0.2)
    assert accuracy_at_coverage(np.zeros(50), wrong, 0.8) == pytest.approx(0.8)


def test_e_aurc_of_a_perfect_ranking_is_about_zero():
    wrong = np.arange(20_000) >= 18_000
    assert abs(e_aurc(np.arange(20_000), wrong)) < 1e-4
    assert e_aurc(-np.arange(20_000), wrong) > 0.1


@pytest.mark.parametrize("wrong", [np.zeros(9, bool), np.ones(9, bool)])
def test_all_right_and_all_wrong(wrong):
    assert aurc(np.arange(9), wrong) == pytest.approx(wrong.mean())
    assert e_aurc(np.arange(9), wrong) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 1.0])
def test_accuracy_at_coverage_against_a_sort(smooth, coverage):
    s = smooth.scores
    keep = round(450 * coverage)
    expected = s.correct[np.argsort(s.uncertainty)][:keep].mean()
    assert accuracy_at_coverage(s.uncertainty, ~s.correct, coverage) == pytest.approx(expected)


def test_uncertainties_below_rounding_still_rank():
    # All three confidences are exactly 1.0 in float64.
    uncertainty = np.array([1e-40, 1e-30, 1e-20])
    assert aurc(uncertainty, np.array([False, False, True])) == pytest.approx(1 / 9)
