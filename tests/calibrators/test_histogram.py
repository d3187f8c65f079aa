"""Histogram binning, by hand and on a known curve."""

import numpy as np
from scipy.special import expit

from research.calibrators.histogram import histogram


def _two(f):
    """log_probs [1, N, 2] of log-odds f."""
    return -np.logaddexp(0, np.stack([f, -np.asarray(f)], axis=1))[None]


def _mapped(calibrator, f):
    return np.exp(calibrator.apply(_two(f)))[0, :, 1]


def test_by_hand():
    """Sixty examples: bins of four; the bin that 0 falls in is split."""
    f = np.arange(60) - 29.5
    labels = (np.arange(60) % 4 == 3).astype(int)  # one hit in each four
    calibrator = histogram(_two(f), labels)
    expected = np.full(60, (1 + 0.5) / 5)
    expected[28:30] = 0.5 / 3  # two below 0, no hit
    expected[30:32] = 1.5 / 3
    np.testing.assert_allclose(_mapped(calibrator, f), expected, atol=1e-12)
    assert calibrator.fitted["levels"] == [16]
    beyond = np.array([-1000.0, 1000.0, -0.1, 0.1])
    np.testing.assert_allclose(_mapped(calibrator, beyond), [0.3, 0.3, 0.5 / 3, 0.5], atol=1e-12)


def test_a_network_that_is_always_sure_keeps_its_answers():
    """Tied at 1 - 1e-9 either way, 1 % wrong: two bins, and what they deliver."""
    answers = np.arange(400) % 2
    labels = np.where(np.arange(400) < 4, 1 - answers, answers)
    f = np.where(answers, 20.7, -20.7)
    mapped = _mapped(histogram(_two(f), labels), f)
    np.testing.assert_allclose(mapped, np.where(answers, 198.5 / 201, 2.5 / 201), atol=1e-12)


def test_a_known_curve_is_recovered():
    generator = np.random.default_rng(0)
    f = 6 * generator.normal(size=6000)
    truth = expit(f / 3)
    mapped = _mapped(histogram(_two(f), (generator.random(6000) < truth).astype(int)), f)
    for value in np.unique(mapped):
        part = mapped == value
        # The noise in the bin, and at most half an example too many of the smoothing.
        noise = 4 * np.sqrt(np.mean(truth[part] * (1 - truth[part])) / part.sum())
        assert abs(value - truth[part].mean()) < noise + 0.5 / part.sum()


def test_a_hundred_classes_are_not_drowned_by_the_smoothing():
    labels = np.arange(1000) % 100
    log_probs = np.log(np.full((1, 1000, 100), 1e-4) + (1 - 1e-2) * np.eye(100)[labels])
    assert np.exp(histogram(log_probs, labels).apply(log_probs)).max(axis=-1).min() > 0.85
