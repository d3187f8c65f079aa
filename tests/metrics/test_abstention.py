"""Abstention: the certified error holds as often as it says."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from research.metrics.abstention import (
    SHARES,
    abstain_share,
    accept,
    choose_threshold,
    summarise_abstention,
    summarise_choice,
)
from research.metrics.intervals import upper_bound
from research.metrics.scores import scores
from research.runtime.errors import UserError

RUNS, N = 250, 150
LEVELS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
# Each world: uncertainty from a uniform number, the chance to be wrong at that uncertainty, and the
# true error rate of the answers with less uncertainty than a threshold.
WORLDS = {
    "informative": (lambda u: u, lambda s: s / 2, lambda t: t / 4),
    "no information": (lambda u: u, lambda s: 0 * s + 0.3, lambda t: 0.3),
    "upside down": (lambda u: u, lambda s: (1 - s) / 9, lambda t: (1 - t / 2) / 9),
    "ties": (
        lambda u: LEVELS[(5 * u).astype(int)],
        lambda s: s / 4,
        lambda t: np.mean(LEVELS[t > LEVELS] / 4) if t > 0.1 else 0.0,
    ),
}


def _draw(world, seed, n=N):
    uncertainty_of, error_of, _ = WORLDS[world]
    generator = np.random.default_rng(seed)
    uncertainty = uncertainty_of(generator.random(n))
    return uncertainty, generator.random(n) < error_of(uncertainty)


@pytest.mark.parametrize("world", WORLDS)
def test_the_chosen_threshold_breaks_its_promise_in_at_most_5_percent(world):
    broken = sum(
        any(WORLDS[world][2](r.threshold) > r.bound for r in choice.curve)
        for choice in (choose_threshold(*_draw(world, seed), 0.05) for seed in range(RUNS))
    )  # every bound holds at once, so the chosen one does
    assert broken <= binom.ppf(0.999, RUNS, 0.05)


def test_without_the_correction_it_would_break_it_more_often():
    """So the test above can fail: every error rate is 30 %, and some share certifies less."""
    broken = sum(
        any(abstain_share(*_draw("no information", s), share).bound < 0.3 for share in SHARES)
        for s in range(RUNS)
    )
    assert broken > binom.ppf(0.999, RUNS, 0.05)


@pytest.mark.parametrize("world", WORLDS)
def test_a_share_named_beforehand_needs_no_correction(world):
    broken = sum(
        WORLDS[world][2](r.threshold) > r.bound
        for r in (abstain_share(*_draw(world, seed), 0.2) for seed in range(RUNS))
    )
    assert broken <= binom.ppf(0.999, RUNS, 0.05)


def test_the_bound_is_no_wider_than_it_must_be():
    """Where uncertainty means nothing the count of errors is binomial, and so the failures."""
    kept, runs = 75, 800
    fails = sum(binom.pmf(k, kept, 0.3) for k in range(kept) if upper_bound(k, kept, 0.95) < 0.3)
    assert 0.01 < fails <= 0.05
    broken = sum(
        abstain_share(*_draw("no information", seed), 0.5).bound < 0.3 for seed in range(runs)
    )
    assert binom.ppf(0.001, runs, fails) <= broken <= binom.ppf(0.999, runs, fails)


def test_by_hand():
    """Ten examples, the two with most uncertainty wrong: a fifth is refused, eight are right."""
    uncertainty = np.arange(10) / 20
    r = abstain_share(uncertainty, uncertainty > 0.35, 0.2)
    assert (r.threshold, r.accepted, r.errors) == (0.4, 8, 0)
    assert r.share_abstained == pytest.approx(0.2)
    assert r.bound == pytest.approx(1 - 0.05 ** (1 / 8))
    np.testing.assert_array_equal(accept(r, np.array([0.39, 0.4, 0.41])), [True, False, False])


def test_the_least_share_that_will_do_is_chosen():
    """A tenth of 2,000 is wrong, and it is the tenth with most uncertainty."""
    uncertainty = np.arange(2000) / 4000
    choice = choose_threshold(uncertainty, uncertainty >= 0.45, 0.01)
    assert choice.chosen.share_abstained == pytest.approx(0.1)
    assert choice.chosen.errors == 0
    assert choice.chosen.bound == pytest.approx(1 - (0.05 / len(SHARES)) ** (1 / 1800))
    assert choice.chosen.certainty == 0.95
    assert [r.bound > 0.01 for r in choice.curve] == [True] * 4 + [False] * 7 + [True] * 2


@pytest.mark.parametrize(("n", "possible"), [(108, False), (109, True)])
def test_all_right_it_still_takes_enough_examples(n, possible):
    """1 - (0.05/13)^(1/n) <= 0.05 from n = 109 on; then all are accepted."""
    uncertainty = np.linspace(1e-9, 0.4, n)
    choice = choose_threshold(uncertainty, np.zeros(n, bool), 0.05)
    assert (choice.chosen is not None) == possible
    if possible:
        assert accept(choice.chosen, np.array([0.0, 0.999])).all()


@pytest.mark.parametrize(("n", "wrong"), [(300, True), (1, False), (1, True)])
def test_all_wrong_or_a_single_example_is_impossible(n, wrong):
    uncertainty = np.linspace(0.1, 0.4, n)
    choice = choose_threshold(uncertainty, np.full(n, wrong), 0.05)
    summary = summarise_choice(choice, uncertainty, np.full(n, wrong))
    assert not summary["possible"]
    assert summary["chosen"] is None
    assert min(point["bound"] for point in summary["curve"]) == (1 if wrong else 1 - 0.05 / 13)


def test_abstention_on_ties_is_all_or_nothing():
    uncertainty = np.repeat([0.1, 0.2], [30, 70])
    r = abstain_share(uncertainty, uncertainty > 0.15, 0.05)
    assert (r.accepted, r.share_abstained) == (30, 0.7)
    assert abstain_share(np.full(9, 0.1), np.zeros(9, bool), 0.05).accepted == 0
    assert abstain_share(np.full(9, 0.1), np.zeros(9, bool), 0.0).accepted == 9


def test_saturated_float32_predictions_stay_distinct():
    """Every top probability is 1 in float32; those with uncertainty above 1e-10 are all wrong."""
    uncertainty = np.concatenate([np.logspace(-30, -12, 450), np.logspace(-9, -8, 50)])
    log_probs = np.stack([np.zeros(500), np.log(uncertainty)], axis=1).astype(np.float32)[None]
    s = scores(log_probs, (np.arange(500) >= 450).astype(int))
    choice = choose_threshold(s.uncertainty, ~s.correct, 0.02)
    assert choice.chosen.threshold == pytest.approx(1e-9, rel=1e-5)
    assert choice.chosen.errors == 0
    again = json.loads(json.dumps(choice.chosen.threshold))
    np.testing.assert_array_equal(s.uncertainty < again, s.correct)


def test_a_summary_is_of_the_test_split_and_ready_for_json():
    uncertainty = np.arange(500) / 1000
    choice = choose_threshold(uncertainty, uncertainty >= 0.45, 0.05)
    summary = summarise_choice(choice, np.array([0.1, 0.2, 0.49]), np.array([True, False, True]))
    assert summary["possible"]
    abstention = summary["chosen"]
    assert abstention["coverage"]["value"] == pytest.approx(2 / 3)
    assert abstention["error"]["value"] == 0.5
    assert abstention["errors"] == choice.chosen.errors  # of the calibration split, untouched
    assert abstention["guarantee"].startswith("With 95 % certainty, of the answers whose doubt is")
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_nothing_accepted_has_no_error_rate_and_no_guarantee():
    r = abstain_share(np.full(9, 0.1), np.zeros(9, bool), 0.5)
    summary = summarise_abstention(r, np.full(4, 0.2), np.zeros(4, bool))
    assert summary["coverage"]["value"] == 0
    assert summary["error"]["value"] is None
    assert summary["guarantee"] is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d, w: choose_threshold(d, w, 1.5), "max_error 1.5: not between 0 and 1"),
        (lambda d, w: choose_threshold(d, w, 0.1, 1.0), "certainty 1.0: not between 0 and 1"),
        (lambda d, w: abstain_share(d, w, 1.0), "share 1.0: not in"),
        (lambda d, w: choose_threshold(d[:0], w[:0], 0.1), "no examples to calibrate on"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call(np.array([0.1, 0.2]), np.array([False, True]))
