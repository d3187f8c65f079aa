"""Temperature scaling: recovers a known T, with an interval that covers it, and never runs away."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import binom

from research.calibrators.fit import cross_calibrate
from research.calibrators.temperature import fit_temperature, temperature


def _sharpened(seed, n, true_temperature, classes=4):
    """Logits whose labels are drawn at T = `true_temperature`."""
    generator = np.random.default_rng(seed)
    logits = 2.0 * generator.normal(size=(n, classes)) * true_temperature
    gumbel = generator.gumbel(size=(n, classes))
    return log_softmax(logits, axis=-1)[None], np.argmax(logits / true_temperature + gumbel, axis=1)


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 20.0])
def test_a_known_temperature_is_recovered(true_temperature):
    fit = fit_temperature(*_sharpened(0, 4000, true_temperature))
    assert fit.low < true_temperature < fit.high
    assert fit.low < fit.temperature < fit.high
    assert fit.nll_after <= fit.nll_before
    assert fit.diverged == 0


def test_the_interval_covers_the_truth_at_its_nominal_rate():
    runs = 200
    fits = [fit_temperature(*_sharpened(seed, 300, 2.0)) for seed in range(runs)]
    covered = sum(fit.low < 2.0 < fit.high for fit in fits)
    assert binom.ppf(0.001, runs, 0.95) <= covered <= binom.ppf(0.999, runs, 0.95)


def test_the_optimum_is_that_of_an_independent_search():
    log_probs, labels = _sharpened(3, 500, 1.7)
    fit = fit_temperature(log_probs, labels)

    def nll(u):
        tempered = log_softmax(log_probs[0] / np.exp(u), axis=-1)
        return -np.mean(tempered[np.arange(len(labels)), labels])

    found = minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    assert fit.temperature == pytest.approx(np.exp(found.x), rel=1e-6)
    assert fit.nll_after == pytest.approx(found.fun, rel=1e-12)
    assert fit.nll_before == pytest.approx(nll(0.0), rel=1e-12)


def test_the_nll_of_several_draws_is_that_of_their_mean():
    generator = np.random.default_rng(0)
    log_probs = log_softmax(3 * generator.normal(size=(5, 40, 3)), axis=-1)
    labels = generator.integers(0, 3, 40)
    fit = fit_temperature(log_probs, labels)

    def nll(u):
        tempered = log_softmax(log_probs / np.exp(u), axis=-1)
        return -np.mean(logsumexp(tempered[:, np.arange(40), labels], axis=0) - np.log(5))

    assert fit.nll_before == pytest.approx(nll(0.0), rel=1e-12)
    assert fit.diverged == 0
    assert fit.nll_after == pytest.approx(nll(np.log(fit.temperature)), rel=1e-12)
    found = minimize_scalar(nll, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert fit.temperature == pytest.approx(np.exp(found.x), rel=1e-6)


def test_a_separable_validation_set_is_reported_and_left_alone():
    labels = np.arange(30) % 3
    log_probs = log_softmax(10.0 * np.eye(3)[labels], axis=-1)[None]
    fit = fit_temperature(log_probs, labels)
    assert (fit.temperature, fit.diverged, fit.low) == (1.0, -1, 0.0)
    assert fit.nll_after == fit.nll_before


def test_worse_than_guessing_is_reported_and_left_alone():
    labels = np.arange(30) % 3
    log_probs = log_softmax(-10.0 * np.eye(3)[labels], axis=-1)[None]
    fit = fit_temperature(log_probs, labels)
    assert (fit.temperature, fit.diverged, fit.high) == (1.0, 1, np.inf)


def test_saturated_confidences_have_a_finite_temperature():
    """99 % right at 0.9999999: the set-up in which gradient descent on T ends at 1386304."""
    n = 1000
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, n)
    answers = np.where(np.arange(n) < 10, 1 - labels, labels)
    logits = np.zeros((n, 2))
    logits[np.arange(n), answers] = generator.uniform(16, 40, n)
    fit = fit_temperature(log_softmax(logits, axis=-1)[None], labels)
    assert 3 < fit.temperature < 12
    # As good as saying the accuracy, 99 %, every time, which costs the entropy of 0.01.
    assert fit.nll_after < -(0.01 * np.log(0.01) + 0.99 * np.log(0.99)) < fit.nll_before


def test_cross_fitting_scores_each_half_with_the_other_halfs_temperature():
    log_probs, labels = _sharpened(5, 400, 3.0)
    tempered = cross_calibrate("temperature", log_probs, labels, seed=1)
    np.testing.assert_allclose(logsumexp(tempered, axis=-1), 0.0, atol=1e-12)
    halves = {round(float(t), 6) for t in _temperatures(log_probs, tempered)}
    assert len(halves) == 2
    whole = fit_temperature(log_probs, labels)
    assert all(whole.low < t < whole.high for t in halves)


def _temperatures(log_probs, tempered):
    """The T of each row, from the differences of its log-probabilities."""
    before = log_probs[0, :, 0] - log_probs[0, :, 1]
    return before / (tempered[0, :, 0] - tempered[0, :, 1])


def test_it_is_the_fit_of_the_method_and_keeps_every_answer(distorted):
    log_probs, labels = distorted(0, 500, 0.5, np.zeros(4))
    calibrator, fit = temperature(log_probs, labels), fit_temperature(log_probs, labels)
    assert calibrator.fitted["temperature"] == fit.temperature
    assert calibrator.fitted["low"] < 2 < calibrator.fitted["high"]
    mapped = calibrator.apply(log_probs)
    np.testing.assert_array_equal(mapped.argmax(axis=-1), log_probs.argmax(axis=-1))
    gaps, before = (x[0, :, :1] - x[0, :, 1:] for x in (mapped, log_probs))
    np.testing.assert_allclose(gaps * fit.temperature, before, rtol=1e-9, atol=1e-12)


def test_an_interval_without_end_is_null():
    labels = np.arange(30) % 3
    log_probs = np.log(np.full((1, 30, 3), 0.2) + 0.4 * np.eye(3)[(labels + 1) % 3])
    assert temperature(log_probs, labels).fitted["high"] is None
