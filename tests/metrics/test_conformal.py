"""Conformal sets: the coverage they state, over many repetitions, and the definitions by hand."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import binom

from research.metrics.conformal import conformal_sets, fit_conformal, summarise_conformal
from research.runtime.errors import UserError

KINDS = pytest.mark.parametrize("kind", ["plain", "adaptive"])


def _sample(generator, n, decimals=None):
    """Over-confident predictions of three classes: labels follow a third of the logits."""
    logits = 6 * generator.normal(size=(n, 3))
    labels = np.argmax(logits / 3 + generator.gumbel(size=(n, 3)), axis=1)
    log_probs = log_softmax(logits, axis=1)
    return (log_probs if decimals is None else log_probs.round(decimals))[None], labels


def _covered(kind, runs, decimals):
    """How often the set of one new image holds its label; 30 calibration images, alpha 0.2."""
    covered = 0
    for seed in range(runs):
        log_probs, labels = _sample(np.random.default_rng(seed), 31, decimals)
        fit = fit_conformal(log_probs[:, :30], labels[:30], 0.2, kind, seed)
        covered += conformal_sets(fit, log_probs[:, 30:])[0, labels[30]]
    return covered


@KINDS
def test_coverage_is_exactly_the_rank_over_n_plus_one(kind):
    runs = 600
    covered = _covered(kind, runs, None)
    assert binom.ppf(0.001, runs, 25 / 31) <= covered <= binom.ppf(0.999, runs, 25 / 31)


@KINDS
def test_ties_never_lower_the_coverage(kind):
    runs = 300
    assert _covered(kind, runs, -1) >= binom.ppf(0.001, runs, 25 / 31)


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(9, 0.1, 9), (19, 0.05, 19), (9, 0.7, 3), (30, 0.2, 25), (99, 0.1, 90)]
)
def test_the_rank_is_exact(n, alpha, rank):
    """(9 + 1)(1 - 0.7) is 3.0000000000000004 in floating point."""
    p = np.arange(n, 0, -1) / (n + 1)  # falls, so the score rises
    fit = fit_conformal(np.log(np.stack([p, 1 - p], axis=1))[None], np.zeros(n, int), alpha)
    assert np.exp(-fit.threshold) == pytest.approx(p[rank - 1], rel=1e-12)


@KINDS
@pytest.mark.parametrize(("n", "vacuous"), [(8, True), (9, False)])
def test_too_few_examples_give_sets_of_all_classes_and_say_so(kind, n, vacuous):
    log_probs, labels = _sample(np.random.default_rng(0), 60)
    fit = fit_conformal(log_probs[:, :n], labels[:n], 0.1, kind)
    sets = conformal_sets(fit, log_probs)
    summary = summarise_conformal(fit, sets, labels)
    assert sets.all() == vacuous
    assert summary["vacuous"] == vacuous
    assert (summary["threshold"] is None) == vacuous
    assert ("it takes 9." in summary["guarantee"]) == vacuous


def test_plain_sets_hold_the_classes_at_least_as_probable_as_the_threshold():
    log_probs, labels = _sample(np.random.default_rng(1), 200)
    fit = fit_conformal(log_probs, labels, 0.2)
    probs = np.exp(log_probs[0])
    nonconformity = np.sort(1 - probs[np.arange(200), labels])  # the score as published
    expected = 1 - probs <= nonconformity[161 - 1] + 1e-12
    np.testing.assert_array_equal(conformal_sets(fit, log_probs), expected)


def test_adaptive_scores_are_the_published_ones():
    """Probability of the classes above, and a random share of one's own, in a slow loop."""
    log_probs, labels = _sample(np.random.default_rng(2), 100)
    probs = np.exp(log_probs[0])

    def published(u):
        score = np.empty((100, 3))
        for i, k in np.ndindex(100, 3):
            score[i, k] = probs[i][probs[i] > probs[i, k]].sum() + u[i] * probs[i, k]
        return score

    u_fit, u_test = (np.random.default_rng([7, split]).random(100) for split in (0, 1))
    threshold = np.sort(published(u_fit)[np.arange(100), labels])[91 - 1]
    fit = fit_conformal(log_probs, labels, 0.1, "adaptive", seed=7)
    assert -np.expm1(-fit.threshold) == pytest.approx(threshold, rel=1e-9)
    expected = published(u_test) <= threshold
    np.testing.assert_array_equal(conformal_sets(fit, log_probs), expected)


def test_draws_are_averaged_as_probabilities():
    first, labels = _sample(np.random.default_rng(3), 50)
    both = np.concatenate([first, _sample(np.random.default_rng(4), 50)[0]])
    mean = np.log(np.exp(both).mean(axis=0))[None]
    assert fit_conformal(both, labels).threshold == pytest.approx(
        fit_conformal(mean, labels).threshold, rel=1e-12
    )


def test_saturated_float32_predictions_stay_distinct():
    """Doubts from 1e-9 to 1e-12: in float32 every top probability is 1."""
    uncertainty = np.logspace(-12, -9, 19)
    log_probs = np.stack([np.zeros(19), np.log(uncertainty)], axis=1).astype(np.float32)[None]
    fit = fit_conformal(log_probs, np.zeros(19, int), 0.5)
    held = conformal_sets(fit, log_probs)
    np.testing.assert_array_equal(held[:, 0], np.arange(19) < 10)
    assert not held[:, 1].any()


@KINDS
def test_probabilities_of_zero_are_allowed(kind):
    log_probs = np.where(np.eye(3, dtype=bool)[np.arange(30) % 3], 0.0, -np.inf)[None]
    wrong = (np.arange(30) + 1) % 3
    right = fit_conformal(log_probs, np.arange(30) % 3, 0.1, kind)
    assert not conformal_sets(right, log_probs)[np.arange(30), wrong].any()
    fit = fit_conformal(log_probs, wrong, 0.1, kind)
    summary = summarise_conformal(fit, conformal_sets(fit, log_probs), wrong)
    assert summary["vacuous"]
    assert "it takes" not in summary["guarantee"]


def test_summary_by_hand():
    log_probs, labels = _sample(np.random.default_rng(5), 50)
    fit = fit_conformal(log_probs, labels, 0.05)
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    summary = summarise_conformal(fit, sets, [0, 0, 1, 1])
    assert summary["coverage"]["value"] == 0.75
    assert summary["coverage"]["low"] < 0.75 < summary["coverage"]["high"]
    assert (summary["mean_size"], summary["share_empty"], summary["share_single"]) == (
        1.25,
        0.25,
        0.25,
    )
    assert summary["sizes"] == [1, 1, 2, 0]
    assert summary["by_class"] == [
        {"count": 2, "coverage": 1.0, "mean_size": 1.5},
        {"count": 2, "coverage": 0.5, "mean_size": 1.0},
        {"count": 0, "coverage": None, "mean_size": None},
    ]
    assert "at least 0.95 of the sets" in summary["guarantee"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha 0.0: not between 0 and 1"),
        ({"alpha": 1.5}, "alpha 1.5: not between 0 and 1"),
        ({"kind": "raps"}, "kind raps: unknown; choose from plain, adaptive"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        fit_conformal(np.log(np.full((1, 4, 2), 0.5)), np.zeros(4, int), **options)
