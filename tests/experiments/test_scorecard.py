"""The scorecard against the metrics it is made of, and its intervals against their meaning."""

import numpy as np
import pytest
from scipy.stats import t as student

from experiments.benchmark.scorecard import METRICS, Predicted, bootstrapped, over_seeds, values
from research.metrics.evaluate import evaluate
from research.metrics.intervals import UNDEFINED
from research.metrics.out_of_distribution import out_of_distribution

CORRUPTIONS, LEVELS, CLASSES = 3, 5, 4


def _log_probs(random, *shape) -> np.ndarray:
    logits = 2 * random.normal(size=(*shape, CLASSES))
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def predicted() -> Predicted:
    """60 test images, 40 of another kind, 30 corrupted in 3 ways."""
    random = np.random.default_rng(0)
    return Predicted(
        test=_log_probs(random, 60),
        labels=random.integers(0, CLASSES, 60),
        outside=_log_probs(random, 40),
        worse=_log_probs(random, CORRUPTIONS, LEVELS, 30),
        worse_labels=random.integers(0, CLASSES, 30),
    )


@pytest.fixture(scope="module")
def card(predicted):
    return values(predicted)


def test_the_test_split_has_the_metrics_of_the_project(predicted, card):
    whole = evaluate(predicted.test[None], predicted.labels, replicates=2)
    for name in METRICS:
        assert card[name] == pytest.approx(whole[name].value, abs=1e-12)


def test_strange_images_are_told_by_entropy(predicted, card):
    found = out_of_distribution(predicted.test[None], predicted.outside[None], replicates=2)
    assert card["ood_auroc"] == found["entropy_auroc"].value
    assert card["ood_fpr95"] == found["entropy_fpr95"].value
    assert "ood_auroc" not in values(predicted._replace(outside=None))


def test_corrupted_metrics_are_means_over_corruptions_of_each_level(predicted, card):
    for name in ("accuracy", "nll", "ece"):
        each = [
            [evaluate(cell[None], predicted.worse_labels, replicates=2)[name].value for cell in row]
            for row in predicted.worse
        ]
        for level, wanted in enumerate(np.mean(each, axis=0), start=1):
            assert card[f"corrupted_{name}_{level}"] == pytest.approx(wanted, abs=1e-12)
        assert card[f"corrupted_{name}"] == pytest.approx(np.mean(each), abs=1e-12)


def test_one_seed_has_bootstrap_intervals_around_the_same_values(predicted, card):
    found = bootstrapped(predicted, replicates=200)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(card)
    for name, estimate in found.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate.low < estimate.high, name
    assert found["accuracy"].interval == "Wilson"
    assert found["ece"].interval == found["corrupted_ece_3"].interval == "basic bootstrap"
    # The corruptions of an image are resampled together: a mean of copies is no surer than one.
    copies = predicted._replace(worse=np.repeat(predicted.worse[:1], 3, axis=0))
    one = predicted._replace(worse=predicted.worse[:1])
    many, single = (bootstrapped(each, replicates=200)["corrupted_nll_2"] for each in (copies, one))
    assert many[:3] == pytest.approx(single[:3])


def test_several_seeds_have_students_interval():
    found = over_seeds("nll", [0.5, 0.7, 0.9])
    half = student.ppf(0.975, 2) * 0.2 / np.sqrt(3)
    assert found[:3] == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    assert over_seeds("nll", [0.5, np.inf]) == UNDEFINED


def test_students_interval_holds_the_mean_as_often_as_it_says():
    random, held, trials = np.random.default_rng(0), 0, 2000
    for _ in range(trials):
        found = over_seeds("nll", list(random.normal(10.0, 1.0, 3)))
        held += found.low <= 10.0 <= found.high
    assert abs(held / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_an_interval_ends_where_its_metric_does():
    assert over_seeds("corrupted_accuracy_3", [0.1, 0.9])[1:3] == (0.0, 1.0)
    low, high = over_seeds("nll", [0.1, 2.0])[1:3]
    assert low == 0.0
    assert high > 2.0
