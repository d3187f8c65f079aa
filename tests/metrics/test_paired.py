"""The paired difference: sharper than two intervals side by side."""

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binom

from research.metrics import proper
from research.metrics.intervals import bootstrap
from research.metrics.paired import nll_change
from research.metrics.scores import scores


def _scores(seed, n=300, temperature=1.0):
    """Logits that are twice too sharp, divided by a temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 3)) * 2
    labels = np.argmax(logits + generator.gumbel(size=(n, 3)), axis=1)
    return scores(log_softmax(2 * logits / temperature, axis=1)[None], labels)


def test_the_value_is_the_difference_of_the_means():
    before, after = _scores(0), _scores(0, temperature=2.0)
    change = nll_change(before, after)
    assert np.isclose(change.value, after.nll.mean() - before.nll.mean(), rtol=1e-12)
    assert change.low < change.value < change.high < 0


def test_it_sees_what_intervals_side_by_side_hide():
    before, after = _scores(0), _scores(0, temperature=1.25)
    each = [
        bootstrap(
            {"nll": lambda w, s=s: proper.nll(s.nll, weights=w)}, (300,), seed=0, replicates=500
        )["nll"]
        for s in (before, after)
    ]
    assert each[1].high > each[0].low  # they overlap
    assert nll_change(before, after).high < 0


def test_the_same_predictions_do_not_differ():
    change = nll_change(_scores(0), _scores(0))
    assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    truth = np.mean(
        [
            nll_change(_scores(s, 20_000), _scores(s, 20_000, 1.5), replicates=2).value
            for s in range(5)
        ]
    )
    runs = 150
    changes = [
        nll_change(_scores(s), _scores(s, temperature=1.5), replicates=400)
        for s in range(100, 100 + runs)
    ]
    covered = sum(change.low < truth < change.high for change in changes)
    assert binom.ppf(0.001, runs, 0.93) <= covered <= binom.ppf(0.999, runs, 0.96)


def test_infinite_in_both_is_undefined_not_a_warning():
    log_probs = np.array([[[0.0, -np.inf], [0.0, -np.inf]]])
    both = scores(log_probs, np.array([0, 1]))
    assert nll_change(both, both).value is None
