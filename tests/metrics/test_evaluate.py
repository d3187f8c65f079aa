import json

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import binom

from research.metrics import proper
from research.metrics.calibration import binned_error, debiased_error
from research.metrics.evaluate import DESCRIPTIONS, TABLE, evaluate, nll_change
from research.metrics.intervals import bootstrap
from research.metrics.scores import Scores, scores
from research.metrics.weighted import equal_mass_bins

# Their bins are made of the sample, so a resample of its own would have others.
OWN_BINS = {"equal_mass_ece": binned_error, "debiased_ece": debiased_error}


def applies(name: str, scores: Scores) -> bool:
    return scores.probs.shape[1] == 2 or not TABLE[name].binary_only


def take(scores: Scores, index: np.ndarray) -> Scores:
    return Scores(*(field[index] for field in scores))


@pytest.mark.parametrize("name", TABLE)
def test_weights_are_a_resample(sample, name):
    s = sample.scores
    if not applies(name, s):
        assert name == "positive_class_ece"
        return
    num_examples = len(s.labels)
    index = np.random.default_rng(0).integers(num_examples, size=(4, num_examples))
    weights = np.stack([np.bincount(i, minlength=num_examples) for i in index])
    got = TABLE[name].function(s, weights)
    assert got.shape == (4,)
    if name in OWN_BINS:
        bins = equal_mass_bins(s.confidence)
        expected = [OWN_BINS[name](s.confidence[i], s.correct[i], bins[i]) for i in index]
    else:
        expected = [TABLE[name].function(take(s, i), None) for i in index]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", TABLE)
def test_the_order_of_the_examples_does_not_matter(sample, name):
    s = sample.scores
    if not applies(name, s):
        assert name == "positive_class_ece"
        return
    expected = TABLE[name].function(s, None)
    for seed in range(3):
        shuffled = take(s, np.random.default_rng(seed).permutation(len(s.labels)))
        np.testing.assert_allclose(TABLE[name].function(shuffled, None), expected, rtol=1e-10)


def test_every_number_has_an_interval_around_it(sample):
    estimates = evaluate(sample.log_probs, sample.labels, replicates=200)
    for name, e in estimates.items():
        if e.value is None:
            assert name == "nll"  # tied: a label was given probability 0
            assert np.isinf(sample.scores.nll).any()
            continue
        assert e.low <= e.value <= e.high, name
        # One draw has no mutual information; a bootstrap sees no further than the end of a scale.
        assert e.low < e.high or name == "mutual_information" or e.value == 1, name


def test_names_order_and_types(smooth, binary):
    estimates = evaluate(smooth.log_probs, smooth.labels, replicates=20)
    assert list(estimates) == [n for n in DESCRIPTIONS if n != "positive_class_ece"]
    assert list(evaluate(binary.log_probs, binary.labels, replicates=20)) == list(DESCRIPTIONS)
    for e in estimates.values():
        assert all(type(x) is float for x in e[:3])
    assert estimates["accuracy"].interval == "Wilson"
    assert estimates["nll"].interval == "bias-corrected bootstrap"
    assert estimates["ece"].interval == "basic bootstrap"
    assert estimates["perfectly_calibrated_ece"].interval == "simulation"


def test_share_above_is_strict(binary):
    s = binary.scores._replace(confidence=np.array([1.0, 0.99, 0.5]))
    assert TABLE["share_above_0.99"].function(s, None) == 1 / 3


def test_the_seed_decides(smooth):
    first, again, other = (
        evaluate(smooth.log_probs, smooth.labels, seed=seed, replicates=50) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["nll"].value == other["nll"].value
    assert first["nll"].low != other["nll"].low


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [
        ([0, 1, 0], {"confidence_on_errors", "error_auroc", "error_aupr", "error_fpr95"}),
        ([1, 0, 1], {"nll", "error_auroc", "error_aupr", "error_fpr95"}),
    ],
)
def test_all_right_and_all_wrong_at_exactly_one(labels, undefined):
    log_probs = np.array([[[0, -np.inf], [-np.inf, 0], [0, -np.inf]]], np.float32)
    estimates = evaluate(log_probs, np.array(labels), replicates=30)
    json.dumps(estimates, allow_nan=False)
    assert {name for name, e in estimates.items() if e.value is None} == undefined
    right = estimates["accuracy"]
    # Three examples prove little, whichever way they fall.
    assert right.high - right.low > 0.5


@pytest.mark.parametrize("num_classes", [2, 3])
def test_one_example_of_one_class(num_classes):
    log_probs = np.full((2, 1, num_classes), -np.log(num_classes), np.float32)
    estimates = evaluate(log_probs, np.array([0]), replicates=10)
    json.dumps(estimates, allow_nan=False)
    assert estimates["nll"].value == pytest.approx(np.log(num_classes))


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


def test_it_finds_what_intervals_side_by_side_hide():
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


def test_the_interval_covers_the_truth_at_its_nominal_rate():
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
