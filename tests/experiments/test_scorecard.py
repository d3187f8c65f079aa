"""The scorecard against the metrics it is made of, and its intervals against their meaning."""

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from experiments.benchmark.scorecard import METRICS, Predicted, bootstrapped, over_seeds, values
from research.metrics.evaluate import evaluate
from research.metrics.intervals import UNDEFINED

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
        ood=_log_probs(random, 40),
        corrupted=_log_probs(random, CORRUPTIONS, LEVELS, 30),
        corrupted_labels=random.integers(0, CLASSES, 30),
    )


@pytest.fixture(scope="module")
def card(predicted):
    return values(predicted)


def test_the_test_split_has_the_metrics_of_the_project(predicted, card):
    whole = evaluate(predicted.test[None], predicted.labels, replicates=2)
    for name in METRICS:
        assert card[name] == pytest.approx(whole[name].value, abs=1e-12)


def test_images_of_another_kind_are_detected_by_the_entropy(predicted, card):
    entropy = [-np.sum(np.exp(x) * x, axis=-1) for x in (predicted.test, predicted.ood)]
    score, is_ood = np.concatenate(entropy), np.repeat([0, 1], [60, 40])
    assert card["ood_auroc"] == pytest.approx(roc_auc_score(is_ood, score), rel=1e-9)
    threshold = np.sort(entropy[1])[::-1][np.ceil(0.95 * 40).astype(int) - 1]
    assert card["ood_fpr95"] == pytest.approx(np.mean(entropy[0] >= threshold))
    assert "ood_auroc" not in values(predicted._replace(ood=None))


def test_images_of_another_kind_that_are_all_uncertain_are_all_found(predicted):
    certain = np.log(np.full((10, 2), [0.99, 0.01]))
    uncertain = np.log(np.full((4, 2), [0.6, 0.4]))
    labels = np.zeros(10, int)
    card = values(Predicted(certain, labels, uncertain, certain[None, None], labels))
    assert (card["ood_auroc"], card["ood_fpr95"]) == (1, 0)


def test_corrupted_metrics_are_means_over_corruptions_of_each_level(predicted, card):
    labels = predicted.corrupted_labels
    for name in ("accuracy", "nll", "ece"):
        cells = [
            [evaluate(cell[None], labels, replicates=2)[name].value for cell in corruption]
            for corruption in predicted.corrupted
        ]
        for level, wanted in enumerate(np.mean(cells, axis=0), start=1):
            assert card[f"corrupted_{name}_{level}"] == pytest.approx(wanted, abs=1e-12)
        assert card[f"corrupted_{name}"] == pytest.approx(np.mean(cells), abs=1e-12)


def test_one_seed_has_bootstrap_intervals_around_the_same_values(predicted, card):
    found = bootstrapped(predicted, replicates=200)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(card)
    for name, estimate in found.items():
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate.low < estimate.high, name
    assert found["accuracy"].interval == "Wilson"
    assert found["ece"].interval == found["corrupted_ece_3"].interval == "basic bootstrap"
    # The corruptions of an image are resampled together: a mean of copies is no surer than one.
    copies = predicted._replace(corrupted=np.repeat(predicted.corrupted[:1], 3, axis=0))
    one = predicted._replace(corrupted=predicted.corrupted[:1])
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
