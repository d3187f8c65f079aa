import jax
import numpy as np
import pytest

from research.metrics.scores import predictive, scores
from research.runtime.errors import UserError


def test_probabilities_are_averaged_over_draws():
    draws = np.array([[[0.9, 0.1]], [[0.6, 0.4]], [[0.3, 0.7]]])  # [S=3, N=1, K=2]
    s = scores(np.log(draws), np.array([1]))
    np.testing.assert_allclose(s.probs, [[0.6, 0.4]], rtol=1e-14)
    np.testing.assert_allclose(s.nll, -np.log(0.4), rtol=1e-14)
    np.testing.assert_allclose(s.confidence, 0.6, rtol=1e-14)
    assert not s.correct[0]

    def entropy(p):
        return -np.sum(p * np.log(p))

    expected = np.mean([entropy(p[0]) for p in draws])
    np.testing.assert_allclose(s.entropy, entropy(np.array([0.6, 0.4])), rtol=1e-14)
    np.testing.assert_allclose(s.expected_entropy, expected, rtol=1e-14)
    np.testing.assert_allclose(s.mutual_information, s.entropy - expected, rtol=1e-14)


@pytest.mark.parametrize("num_draws", [1, 7])
def test_draws_that_agree_have_no_mutual_information(smooth, num_draws):
    p = predictive(np.repeat(smooth.log_probs, num_draws, axis=0))
    information = p.entropy - p.expected_entropy
    assert np.all(information >= 0)
    np.testing.assert_allclose(information, 0, atol=1e-14)
    assert num_draws > 1 or not information.any()


def test_mutual_information_is_never_negative():
    generator = np.random.default_rng(0)
    logits = generator.normal(scale=[[[0.01]], [[1.0]], [[30.0]]], size=(3, 500, 5))
    p = predictive(logits - np.log(np.exp(logits).sum(axis=2, keepdims=True)))
    assert np.all(p.entropy >= p.expected_entropy)
    assert np.all(p.expected_entropy >= 0)


@pytest.mark.parametrize("log_odds", [1.0, 16.0, 20.7, 40.0, 90.0])
def test_uncertainty_survives_a_float32_softmax_that_rounds_to_one(log_odds):
    # A float32 softmax gives the top class log p = 0 from log-odds of about 17 on.
    logits = np.array([[0.0, -log_odds]], np.float32)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    assert log_odds < 17 or log_probs[0, 0] == 0
    s = scores(log_probs[None], np.array([0]))
    uncertainty = 1 / (1 + np.exp(np.float64(np.float32(log_odds))))
    np.testing.assert_allclose(s.uncertainty, uncertainty, rtol=1e-5)
    np.testing.assert_allclose(s.nll, -np.log1p(-uncertainty), rtol=1e-5)
    wrong = scores(log_probs[None], np.array([1]))
    np.testing.assert_allclose(wrong.nll, -np.log(uncertainty), rtol=1e-6)


def test_a_nearly_sure_average_keeps_its_uncertainty():
    draws = np.log([[[1 - 1e-9, 1e-9]], [[1 - 3e-9, 3e-9]]]).astype(np.float32)
    np.testing.assert_allclose(predictive(draws).uncertainty, 2e-9, rtol=1e-5)


def test_probability_zero():
    s = scores(np.array([[[0.0, -np.inf], [0.0, -np.inf]]]), np.array([0, 1]))
    np.testing.assert_array_equal(s.uncertainty, [0, 0])
    np.testing.assert_array_equal(s.nll, [0, np.inf])
    np.testing.assert_array_equal(s.entropy, [0, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_distribution_is_an_error(smooth, bad):
    log_probs = smooth.log_probs.copy()
    log_probs[0, 17, 2] = bad
    with pytest.raises(UserError, match="example 17 "):
        predictive(log_probs)


def test_one_label_for_each_prediction():
    with pytest.raises(UserError, match="3 predictions for labels of shape"):
        scores(np.log(np.full((1, 3, 2), 0.5)), np.array([0, 1]))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_labels_out_of_range_are_an_error(labels):
    with pytest.raises(UserError, match="number the classes from 0 to 1"):
        scores(np.log(np.full((1, 2, 2), 0.5)), np.array(labels))


def test_no_examples_are_an_error():
    with pytest.raises(UserError, match="at least one example"):
        scores(np.zeros((1, 0, 2)), np.zeros(0, int))
