"""Platt scaling, against scikit-learn and by hand."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from research.calibrators.fit import calibrate
from research.calibrators.platt import platt
from research.runtime.errors import UserError


class Scorer(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its one feature."""

    def fit(self, features, labels):
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, features):
        return features[:, 0]

    def predict(self, features):
        return (features[:, 0] > 0).astype(int)


def _sample(seed, n, a=0.3, b=0.7):
    """log_probs, labels and f, with P(label = 1) = sigmoid(a f + b)."""
    generator = np.random.default_rng(seed)
    f = 5 * generator.normal(size=n)
    log_probs = -np.logaddexp(0, np.stack([f, -f], axis=1))[None]
    return log_probs, (generator.random(n) < expit(a * f + b)).astype(int), f


def test_it_is_scikit_learns_sigmoid_calibration():
    log_probs, labels, f = _sample(0, 200)
    scorer = Scorer().fit(f[:, None], labels)
    peer = CalibratedClassifierCV(FrozenEstimator(scorer), method="sigmoid", ensemble=False)
    peer.fit(f[:, None], labels)
    ours = np.exp(platt(log_probs, labels).apply(log_probs))[0]
    np.testing.assert_allclose(ours, peer.predict_proba(f[:, None]), atol=1e-5)


def test_with_many_examples_it_is_logistic_regression():
    """Smoothed targets weigh as two examples do, and so differ by O(1/N)."""
    log_probs, labels, f = _sample(1, 4000)
    fitted = platt(log_probs, labels).fitted
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(f[:, None], labels)
    assert fitted["a"] == pytest.approx(peer.coef_[0, 0], abs=20 / 4000)
    assert fitted["b"] == pytest.approx(peer.intercept_[0], abs=20 / 4000)


def test_a_known_slope_and_offset_are_recovered():
    log_probs, labels, f = _sample(2, 4000)
    fitted = platt(log_probs, labels).fitted
    p = expit(0.3 * f + 0.7)
    design = np.stack([f, np.ones_like(f)])
    error = np.sqrt(np.diag(np.linalg.inv(design * (p * (1 - p)) @ design.T)))
    assert abs(fitted["a"] - 0.3) < 4 * error[0]
    assert abs(fitted["b"] - 0.7) < 4 * error[1]


def test_a_separable_set_claims_what_its_targets_are():
    """Eight of one class at f = 50, three of the other at -50, no mistake: p is the target."""
    f = np.repeat([50.0, -50.0], [8, 3])
    log_probs = -np.logaddexp(0, np.stack([f, -f], axis=1))[None]
    calibrator = platt(log_probs, (f > 0).astype(int))
    probs = np.exp(calibrator.apply(log_probs))[0, :, 1]
    np.testing.assert_allclose(probs, np.where(f > 0, 9 / 10, 1 / 5), atol=1e-6)
    assert calibrator.fitted["a"] == pytest.approx((logit(0.9) - logit(0.2)) / 100, abs=1e-6)


def test_three_classes_are_an_error():
    with pytest.raises(UserError, match=r"^calibrate platt: .* there are 3; take vector$"):
        calibrate("platt", np.log(np.full((1, 6, 3), 1 / 3)), np.arange(6) % 3)
