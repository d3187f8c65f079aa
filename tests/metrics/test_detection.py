import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from research.metrics.detection import aupr, auroc, fpr95


def test_against_scikit_learn(sample):
    s = sample.scores
    wrong = ~s.correct
    assert auroc(s.uncertainty, wrong) == pytest.approx(
        roc_auc_score(wrong, s.uncertainty), rel=1e-12
    )
    expected = average_precision_score(wrong, s.uncertainty)
    assert aupr(s.uncertainty, wrong) == pytest.approx(expected, rel=1e-12)
    fpr, tpr, _ = roc_curve(wrong, s.uncertainty, drop_intermediate=False)
    assert fpr95(s.uncertainty, wrong) == pytest.approx(fpr[tpr >= 0.95].min(), rel=1e-12)


def test_fpr95_at_exactly_95_percent():
    # 20 positives; the 19th comes after one negative, the 20th after two.
    positive = np.array([True] * 18 + [False, True, False, True])
    assert fpr95(-np.arange(22), positive) == pytest.approx(1 / 2)


def test_a_tie_counts_half():
    assert auroc(np.zeros(10), np.arange(10) < 3) == 0.5
    assert aupr(np.zeros(10), np.arange(10) < 3) == pytest.approx(0.3)
    assert fpr95(np.zeros(10), np.arange(10) < 3) == 1


@pytest.mark.parametrize("metric", [auroc, aupr, fpr95])
@pytest.mark.parametrize("positive", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_kind_only_is_undefined(metric, positive):
    assert np.isnan(metric(np.arange(5.0), positive))
