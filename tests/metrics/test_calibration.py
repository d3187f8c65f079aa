import numpy as np
import pytest

from research.metrics.calibration import (
    binned_error,
    class_wise_ece,
    debiased_ece,
    ece,
    equal_mass_ece,
    ks_error,
    mce,
    perfectly_calibrated_ece,
    positive_class_ece,
)
from research.metrics.weighted import equal_mass_bins, equal_width_bins


def slow_gaps(confidence, correct, num_bins=15):
    """(share, gap) of each bin, found by asking every example of every bin."""
    found = []
    for m in range(num_bins):
        inside = [
            i
            for i, c in enumerate(confidence)
            if (m / num_bins + 1e-6 < c or m == 0) and c <= (m + 1) / num_bins + 1e-6
        ]
        if inside:
            gap = sum(confidence[i] - correct[i] for i in inside) / len(inside)
            found.append((len(inside) / len(confidence), abs(gap)))
    return found


def test_ece_and_mce_against_a_slow_loop(sample):
    s = sample.scores
    gaps = slow_gaps(s.confidence, s.correct)
    assert ece(s.confidence, s.correct) == pytest.approx(sum(w * g for w, g in gaps), rel=1e-12)
    assert mce(s.confidence, s.correct) == pytest.approx(max(g for _, g in gaps), rel=1e-12)


def test_class_wise_ece_against_a_slow_loop(sample):
    s = sample.scores
    per_class = [
        sum(w * g for w, g in slow_gaps(s.probs[:, k], s.labels == k))
        for k in range(s.probs.shape[1])
    ]
    assert class_wise_ece(s.probs, s.labels) == pytest.approx(np.mean(per_class), rel=1e-12)


def test_ece_by_hand():
    confidence = np.array([0.95, 0.95, 0.55, 0.56])
    correct = np.array([True, False, True, True])
    # 0.95 lies in the last bin: |0.95 - 0.5|; 0.55 and 0.56 in the ninth: |0.555 - 1|.
    assert ece(confidence, correct) == pytest.approx(0.5 * 0.45 + 0.5 * 0.445)
    assert mce(confidence, correct) == pytest.approx(0.45)
    # From the least sure: -0.45, -0.89, then both 0.95 at once: +0.9 = 0.01.
    assert ks_error(confidence, correct) == pytest.approx(0.89 / 4)


def test_both_binary_conventions():
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    labels = np.array([1, 1])
    assert ece(np.array([0.9, 0.8]), np.array([False, True])) == pytest.approx((0.9 + 0.2) / 2)
    assert positive_class_ece(probs, labels) == pytest.approx((0.9 + 0.2) / 2)
    # Two classes whose errors cancel in one convention and not in the other.
    probs, labels = np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([1, 1])
    assert ece(np.array([0.9, 0.9]), np.array([True, False])) == pytest.approx(0.4)
    assert positive_class_ece(probs, labels) == pytest.approx((0.1 + 0.9) / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_closed_on_the_right_and_hold_zero_and_one(dtype):
    edges = (np.arange(16) / 15).astype(dtype)
    np.testing.assert_array_equal(equal_width_bins(edges), [0, *range(15)])
    np.testing.assert_array_equal(equal_width_bins(edges[:-1] + dtype(1e-4)), range(15))


def test_equal_mass_bins_are_equal():
    generator = np.random.default_rng(0)
    bins = equal_mass_bins(generator.permutation(450) / 450)
    np.testing.assert_array_equal(np.bincount(bins), np.full(15, 30))


def test_equal_mass_bins_keep_ties_together(tied):
    confidence = tied.scores.confidence.round(3)
    bins = equal_mass_bins(confidence)
    for value in np.unique(confidence):
        assert len(set(bins[confidence == value])) == 1
    assert np.all(np.diff(bins[np.argsort(confidence)]) >= 0)


def test_equal_mass_ece_against_a_slow_loop(sample):
    s = sample.scores
    members = {}
    for c, right in zip(s.confidence, s.correct, strict=True):
        # The bin of the middle one of those tied with it, when all stand in line.
        middle = sum(s.confidence < c) + sum(s.confidence == c) / 2
        members.setdefault(int(15 * middle / len(s.labels)), []).append(c - right)
    expected = sum(abs(sum(gaps)) for gaps in members.values()) / len(s.labels)
    assert equal_mass_ece(s.confidence, s.correct) == pytest.approx(expected, rel=1e-12)


def test_saturated_confidences_lose_no_example():
    # 82 % of the confidences are exactly 1.0, at 93 % accuracy: bins that drop their edges see
    # only the rest. All gaps point one way, so the error is mean confidence minus accuracy.
    generator = np.random.default_rng(0)
    confidence = np.ones(5000)
    confidence[:900] = generator.uniform(0.99, 0.999, size=900)
    correct = np.arange(5000) % 100 < 93
    expected = confidence.mean() - 0.93
    assert equal_mass_ece(confidence, correct) == pytest.approx(expected, abs=1e-12)
    assert ece(confidence, correct) == pytest.approx(expected, abs=1e-12)
    assert ks_error(confidence, correct) == pytest.approx(expected, abs=1e-12)
    assert debiased_ece(confidence, correct) == pytest.approx(expected, abs=2e-3)


def test_ks_against_a_slow_loop(sample):
    s = sample.scores
    worst = total = 0.0
    for value in sorted(set(s.confidence)):
        total += sum(c - r for c, r in zip(s.confidence, s.correct, strict=True) if c == value)
        worst = max(worst, abs(total))
    assert ks_error(s.confidence, s.correct) == pytest.approx(worst / len(s.confidence), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_equal_mass_errors_against_uncertainty_calibration(smooth, power):
    calibration = pytest.importorskip("calibration")
    s = smooth.scores
    theirs = calibration.lower_bound_scaling_top_ce(
        s.probs, s.labels, p=power, debias=power == 2, num_bins=15
    )
    ours = equal_mass_ece if power == 1 else debiased_ece
    assert ours(s.confidence, s.correct) == pytest.approx(theirs, rel=1e-9)


def test_debiased_error_is_never_negative():
    confidence = np.repeat([0.25, 0.5, 0.75], 4)
    correct = np.tile([True, False, False, True], 3)
    assert debiased_ece(confidence, correct) == 0
    assert debiased_ece(np.array([0.9]), np.array([False])) == 0  # one example tells no noise


def test_perfectly_calibrated_error_against_simulated_labels(smooth):
    confidence = smooth.scores.confidence
    generator = np.random.default_rng(3)
    simulated = np.array([ece(confidence, generator.random(450) < confidence) for _ in range(400)])
    estimate = perfectly_calibrated_ece(confidence, replicates=400)
    error = np.std(simulated) * np.sqrt(2 / 400)  # of the difference of two means
    assert abs(estimate.value - np.mean(simulated)) < 4 * error
    inside = np.mean((simulated >= estimate.low) & (simulated <= estimate.high))
    # Two sets of 400 simulations, 5 % outside: binomial noise of both, at 4 standard deviations.
    assert abs(inside - 0.95) < 4 * np.sqrt(0.05 * 0.95 * 2 / 400)


def test_a_sure_model_has_no_noise():
    estimate = perfectly_calibrated_ece(np.ones(100), replicates=20)
    assert estimate[:3] == (0, 0, 0)


def test_binned_error_takes_any_bins():
    confidence, correct = np.array([0.9, 0.6, 0.3]), np.array([True, False, False])
    assert binned_error(confidence, correct, np.array([0, 0, 0])) == pytest.approx(0.8 / 3)
    assert binned_error(confidence, correct, np.array([2, 1, 0])) == pytest.approx(1.0 / 3)
