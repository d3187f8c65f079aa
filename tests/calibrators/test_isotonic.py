"""Isotonic regression, against scikit-learn, by hand, and on a known curve."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from research.calibrators.isotonic import isotonic


def _two(probs):
    """log_probs [1, N, 2] of p_1."""
    return np.log(np.stack([1 - np.asarray(probs), np.asarray(probs)], axis=1))[None]


def _mapped(calibrator, log_probs):
    return np.exp(calibrator.apply(log_probs))[0, :, 1]


def test_it_is_scikit_learns_fit_but_for_the_one_example_spread_over_the_ends():
    generator = np.random.default_rng(0)
    probs = generator.random(400)
    labels = (generator.random(400) < probs**2).astype(int)
    peer = IsotonicRegression().fit_transform(probs, labels)
    ours = _mapped(isotonic(_two(probs), labels), _two(probs))
    inside = (peer > peer.min()) & (peer < peer.max())
    assert inside.mean() > 0.5
    np.testing.assert_allclose(ours[inside], peer[inside], atol=1e-12)
    for end, hits in ((peer == peer.min(), 0.5), (peer == peer.max(), 0.0)):
        expected = (labels[end].sum() + hits) / (end.sum() + 0.5)
        np.testing.assert_allclose(ours[end], expected, atol=1e-12)


def test_by_hand():
    """Misses at .1 .2, a hit at .3, a miss at .4, hits at .6 .7: blocks 0 0 | 1 0 | 1 1."""
    log_probs = _two([0.1, 0.2, 0.3, 0.4, 0.6, 0.7])
    calibrator = isotonic(log_probs, np.array([0, 0, 1, 0, 1, 1]))
    low, high = 0.5 / 2.5, 2 / 2.5
    np.testing.assert_allclose(
        _mapped(calibrator, log_probs), [low, low, 0.5, 0.5, high, high], atol=1e-12
    )
    np.testing.assert_allclose(_mapped(calibrator, _two([1e-9, 0.999999])), [low, high], atol=1e-12)
    assert calibrator.fitted["levels"] == [3]


def test_a_known_curve_is_recovered():
    generator = np.random.default_rng(1)
    f = 6 * generator.normal(size=6000)
    log_probs = -np.logaddexp(0, np.stack([f, -f], axis=1))[None]
    truth = expit(f / 3)
    ours = _mapped(isotonic(log_probs, (generator.random(6000) < truth).astype(int)), log_probs)
    for part in np.array_split(np.argsort(f), 10):
        # The sum over a part is off by the noise in it and in what is pooled across its two ends.
        assert abs(ours[part].mean() - truth[part].mean()) < 4 * np.sqrt(0.25 / len(part))
    assert (np.diff(ours[np.argsort(f)]) >= 0).all()


def test_saturated_float32_probabilities_stay_distinct():
    """All above 1 - 1e-9, where p rounds to 1 in float32: right beyond a log-odds of 30."""
    f = np.concatenate([np.linspace(21, 29, 50), np.linspace(31, 39, 50)]).astype(np.float32)
    log_probs = np.stack([-f, np.zeros_like(f)], axis=1)[None]
    ours = _mapped(isotonic(log_probs, (f > 30).astype(int)), log_probs)
    assert (ours[:50] < 0.02).all()
    assert (ours[50:] > 0.98).all()


@pytest.mark.parametrize("num_classes", [3, 6])
def test_many_classes_are_each_against_the_rest_and_normalised(num_classes, distorted):
    log_probs, labels = distorted(2, 300, 0.5, np.zeros(num_classes))
    ours = np.exp(isotonic(log_probs, labels).apply(log_probs))[0]
    columns = []
    for k in range(num_classes):
        p = np.exp(log_probs[0, :, k])
        ends = np.concatenate([p, [p.min(), p.max()]])
        weights = np.concatenate([np.ones(300), [1 / num_classes, 1 - 1 / num_classes]])
        hits = np.concatenate([labels == k, [1, 0]])
        peer = IsotonicRegression(out_of_bounds="clip").fit(ends, hits, sample_weight=weights)
        columns.append(peer.predict(p))
    columns = np.stack(columns, axis=1)
    np.testing.assert_allclose(ours, columns / columns.sum(axis=1, keepdims=True), atol=1e-9)
