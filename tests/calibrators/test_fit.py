import numpy as np
import pytest
from scipy.special import logsumexp

from research.calibrators.fit import (
    calibrate,
    calibrate_in_turn,
    calibrator_names,
    cross_calibrate,
    parse,
)
from research.runtime.errors import UserError


def _sample(seed, n):
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=(1, n, 3))
    labels = np.argmax(logits[0] / 2 + generator.gumbel(size=(n, 3)), axis=1)
    return logits - logsumexp(logits, axis=-1, keepdims=True), labels


def test_a_calibrator_is_found_by_its_file():
    assert calibrator_names() == ["histogram", "isotonic", "platt", "temperature", "vector"]


def test_a_line_names_calibrators():
    assert parse("vector, isotonic,vector") == ("vector", "isotonic")
    assert parse("") == ()


def test_an_unknown_calibrator_is_one_line():
    with pytest.raises(UserError, match=r"^calibrate: there is no calibrator _averaged; choose f"):
        parse("vector,_averaged")


def test_labels_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="labels of shape"):
        calibrate("vector", np.log(np.full((1, 4, 2), 0.5)), [0, 1])


def test_a_second_calibrator_is_fitted_to_what_the_first_one_gives():
    log_probs, labels = _sample(2, 200)
    first = calibrate("temperature", log_probs, labels)
    second = calibrate("vector", first.apply(log_probs), labels)
    both = calibrate_in_turn(("temperature", "vector"), log_probs, labels)
    np.testing.assert_array_equal(both(log_probs), second.apply(first.apply(log_probs)))
    assert calibrate_in_turn((), log_probs, labels)(log_probs) is log_probs


@pytest.mark.parametrize("n", [60, 61])
def test_cross_calibration_scores_each_half_with_the_other_halfs_fit(n):
    log_probs, labels = _sample(0, n)
    crossed = cross_calibrate("histogram", log_probs, labels, seed=3)
    half = np.random.default_rng(3).permutation(n) % 2 == 1
    for fitted, scored in ((half, ~half), (~half, half)):
        fit = calibrate("histogram", log_probs[:, fitted], labels[fitted])
        np.testing.assert_array_equal(crossed[:, scored], fit.apply(log_probs[:, scored]))


def test_no_example_is_scored_with_its_own_label():
    log_probs, labels = _sample(1, 40)
    crossed = cross_calibrate("isotonic", log_probs, labels)
    for i in range(5):
        other = labels.copy()
        other[i] = (other[i] + 1) % 3
        np.testing.assert_array_equal(
            cross_calibrate("isotonic", log_probs, other)[:, i], crossed[:, i]
        )
