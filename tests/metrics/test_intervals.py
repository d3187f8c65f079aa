import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from research.metrics import intervals
from research.metrics.intervals import (
    OVER_SEEDS,
    basic,
    bias_corrected,
    bootstrap,
    clopper_pearson,
    proportion,
    resamples,
    student_interval,
    upper_bound,
    wilson,
)
from research.metrics.weighted import mean, weighted


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (1, 1), (20, 20), (297, 300), (7, 31)])
def test_wilson_against_scipy(successes, trials):
    theirs = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(successes, trials), theirs, atol=1e-12)
    assert proportion(successes / trials, trials)[1:3] == pytest.approx(tuple(theirs), abs=1e-12)


def test_wilson_covers_at_99_percent_of_300():
    # Exactly: summed over every outcome, no simulation. The plain normal interval covers 0.80.
    k = np.arange(301)
    low, high = wilson(k, 300)
    coverage = binom.pmf(k, 300, 0.99)[(low <= 0.99) & (high >= 0.99)].sum()
    assert 0.93 < coverage < 0.98


def test_both_bootstraps_take_off_the_bias():
    # Replicates that stand 0.5 standard errors too high: both intervals move down by 0.5.
    replicates = 10.5 + norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    expected = [9.5 - 1.96, 9.5 + 1.96]
    np.testing.assert_allclose(bias_corrected(10.0, replicates), expected, atol=2e-3)
    np.testing.assert_allclose(basic(10.0, replicates), expected, atol=2e-3)


def test_the_basic_interval_holds_its_value_and_stops_at_zero():
    replicates = 3.0 + norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    np.testing.assert_allclose(basic(0.5, replicates), [0.0, 0.5], atol=1e-3)


def test_the_bias_corrected_interval_is_equivariant():
    # Efron's point: the interval of a rising function of a number is that function of the ends.
    replicates = np.random.default_rng(0).normal(0.3, 1, size=999)
    low, high = bias_corrected(0.2, replicates)
    rank = np.searchsorted(np.sort(replicates), [low, high])
    ends = bias_corrected(np.exp(0.2), np.exp(replicates))
    again = np.searchsorted(np.sort(np.exp(replicates)), ends)
    np.testing.assert_array_equal(rank, again)


def test_the_interval_of_a_mean_covers_its_truth():
    # 50 kinds of example, each with its own true class probabilities: the true NLL is exact.
    generator = np.random.default_rng(0)
    truth = generator.dirichlet(np.ones(3), size=50)
    losses = -np.log(0.7 * truth + 0.1)
    true_nll = np.mean(np.sum(truth * losses, axis=1))
    trials, hits = 300, 0
    for trial in range(trials):
        kinds = generator.integers(50, size=300)
        labels = (generator.random(300)[:, None] > truth[kinds].cumsum(axis=1)).sum(axis=1)
        sample = losses[kinds, labels]
        estimate = bootstrap(
            {"nll": lambda w, x=sample: weighted(mean)(x, weights=w)},
            (300,),
            seed=trial,
            replicates=300,
        )["nll"]
        hits += estimate.low <= true_nll <= estimate.high
    assert binom.ppf(1e-4, trials, 0.95) <= hits <= binom.ppf(1 - 1e-4, trials, 0.95)


def test_resamples_are_counts_of_each_part():
    counts = np.concatenate(list(resamples(np.random.default_rng(0), (30, 12), 400)))
    assert counts.shape == (400, 42)
    np.testing.assert_array_equal(counts[:, :30].sum(axis=1), 30)
    np.testing.assert_array_equal(counts[:, 30:].sum(axis=1), 12)
    # A count is binomial with mean 1 and variance 1 - 1/n.
    errors = np.sqrt((1 - 1 / np.repeat([30, 12], [30, 12])) / 400)
    assert np.all(np.abs(counts.mean(axis=0) - 1) < 4.5 * errors)


def test_resamples_do_not_depend_on_the_chunks(monkeypatch):
    whole = np.concatenate(list(resamples(np.random.default_rng(5), (40,), 30)))
    monkeypatch.setattr(intervals, "CHUNK_BYTES", 8 * 40 * 7)
    parts = list(resamples(np.random.default_rng(5), (40,), 30))
    assert [len(p) for p in parts] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_undefined_or_infinite_is_none():
    estimates = bootstrap(
        {"nan": lambda w: np.nan, "infinite": lambda w: np.inf}, (3,), seed=0, replicates=10
    )
    for estimate in estimates.values():
        assert estimate == (None, None, None, "undefined")


def test_undefined_replicates_are_left_out():
    replicates = np.where(np.arange(100) % 2, np.nan, np.arange(100.0))
    estimate = bootstrap(
        {"half": lambda w: 50.0 if w is None else replicates[: len(w)]},
        (3,),
        seed=0,
        replicates=100,
    )["half"]
    assert estimate[1:3] == bias_corrected(50.0, np.arange(0, 100, 2.0))


def test_students_interval_is_of_the_mean_over_seeds_and_stops_at_the_bounds():
    found = student_interval(np.array([1.0, 2.0, 3.0]))
    half = 4.302653 / 3**0.5  # t(0.975, 2 degrees of freedom) s / sqrt(3)
    np.testing.assert_allclose(found[:3], [2, 2 - half, 2 + half], rtol=1e-6)
    assert found.interval == OVER_SEEDS
    bounded = student_interval(np.array([0.9, 1.0]), 0.8, 1.0)
    assert (bounded.low, bounded.high) == (0.8, 1.0)
    assert student_interval(np.array([0.5])) == (0.5, None, None, "none")


@pytest.mark.parametrize(("errors", "trials"), [(0, 1), (0, 59), (3, 100), (99, 100)])
def test_the_upper_bound_is_where_so_few_errors_become_unlikely(errors, trials):
    assert binom.cdf(errors, trials, upper_bound(errors, trials, 0.95)) == pytest.approx(0.05)
    assert upper_bound(0, 59, 0.95) == pytest.approx(1 - 0.05 ** (1 / 59))


def test_where_nothing_is_right_or_nothing_is_tried_the_bound_is_one():
    assert upper_bound(7, 7, 0.95) == upper_bound(0, 0, 0.95) == 1.0


@pytest.mark.parametrize(("errors", "trials"), [(0, 5), (2, 9), (9, 9)])
def test_the_interval_is_the_exact_one(errors, trials):
    peer = binomtest(errors, trials).proportion_ci(method="exact")
    ours = clopper_pearson(errors, trials)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert ours.value == errors / trials
