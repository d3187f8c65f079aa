import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from research.metrics.out_of_distribution import out_of_distribution
from research.metrics.scores import predictive


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def both() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    known = log_softmax(generator.normal(scale=4, size=(3, 120, 5)))
    strange = log_softmax(generator.normal(scale=2, size=(3, 80, 5)))
    return known, strange


def test_against_scikit_learn(both):
    estimates = out_of_distribution(*both, replicates=50)
    known, strange = (predictive(x) for x in both)
    positive = np.repeat([0, 1], [120, 80])
    scores = {
        "doubt": lambda p: 1 - np.exp(p.log_probs.max(axis=1)),
        "entropy": lambda p: p.entropy,
        "mutual_information": lambda p: p.entropy - p.expected_entropy,
    }
    for name, f in scores.items():
        score = np.concatenate([f(known), f(strange)])
        auroc, aupr, fpr95 = (estimates[f"{name}_{m}"] for m in ("auroc", "aupr", "fpr95"))
        assert auroc.value == pytest.approx(roc_auc_score(positive, score), rel=1e-9)
        assert aupr.value == pytest.approx(average_precision_score(positive, score), rel=1e-9)
        assert 0 <= fpr95.value <= 1
        for e in (auroc, aupr, fpr95):
            assert e.low <= e.value <= e.high
            assert e.low < e.high
    assert len(estimates) == 9


def test_one_draw_has_nothing_to_disagree_with(both):
    known, strange = both
    estimates = out_of_distribution(known[:1], strange[:1], replicates=10)
    assert estimates["mutual_information_auroc"][:3] == (0.5, 0.5, 0.5)


def test_strange_images_that_are_doubted_are_all_found():
    known = np.log(np.full((1, 10, 2), [0.99, 0.01]))
    strange = np.log(np.full((1, 4, 2), [0.6, 0.4]))
    estimates = out_of_distribution(known, strange, replicates=10)
    assert [estimates[f"doubt_{m}"].value for m in ("auroc", "aupr", "fpr95")] == [1, 1, 0]
