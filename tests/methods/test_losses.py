"""Losses against slow sums in float64, and finite where the network is sure of everything."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from research.methods.point import focal, mixup

B, K = 6, 4


def smooth(labels, num_classes, smoothing):
    return optax.losses.smooth_labels(jax.nn.one_hot(labels, num_classes), smoothing)


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    logits = (3 * generator.normal(size=(B, K))).astype(np.float32)
    targets = generator.dirichlet(np.ones(K), size=B).astype(np.float32)
    return logits, targets


def _slow(logits, targets, gamma):
    losses = []
    for z, t in zip(logits.astype(np.float64), targets.astype(np.float64), strict=True):
        p = np.exp(z) / np.sum(np.exp(z))
        losses.append(sum(-t[k] * (1 - p[k]) ** gamma * np.log(p[k]) for k in range(K)))
    return losses


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_focal_is_its_definition(batch, gamma):
    np.testing.assert_allclose(focal(*batch, gamma), _slow(*batch, gamma), rtol=1e-5)


def test_one_hot_targets_give_the_nll_of_the_label(batch):
    labels = np.arange(B) % K
    expected = -log_softmax(batch[0].astype(np.float64), axis=-1)[np.arange(B), labels]
    np.testing.assert_allclose(focal(batch[0], smooth(labels, K, 0.0), 0.0), expected, rtol=1e-5)


def test_label_smoothing_pulls_every_probability_to_its_target(batch):
    """The gradient in the logits is p - t: nothing is gained by p above 1 - smoothing."""
    labels = np.arange(B) % K
    targets = smooth(labels, K, 0.1)
    gradient = jax.grad(lambda z: jnp.sum(focal(z, targets, 0.0)))(batch[0])
    np.testing.assert_allclose(gradient, jax.nn.softmax(batch[0]) - targets, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_saturated_logits_stay_finite(gamma, smoothing):
    logits = jnp.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0], [30.0, 0.0, 0.0]])
    targets = smooth(jnp.zeros(3, int), 3, smoothing)

    def total(z):
        return jnp.sum(focal(z, targets, gamma))

    value, gradient = jax.value_and_grad(total)(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    # The second example is wrong for certain: its loss must still have a slope.
    assert gradient[1, 0] < -0.8


def test_mixup_by_hand():
    images = np.random.default_rng(0).integers(0, 256, (B, 2, 2, 3)).astype(np.uint8)
    mixed = mixup(jax.random.key(3), images, 0.4)
    share, partners = float(mixed.share), np.asarray(mixed.partners)
    assert 0 < share < 1
    assert sorted(partners) == list(range(B))
    assert mixed.images.dtype == jnp.float32
    for i in range(B):
        expected = share * images[i].astype(float) + (1 - share) * images[partners[i]].astype(float)
        np.testing.assert_allclose(mixed.images[i], expected, rtol=1e-5)


def test_mixup_shares_are_beta_distributed():
    alpha, draws = 0.4, 400
    keys = jax.random.split(jax.random.key(0), draws)
    shares = np.array([mixup(key, jnp.zeros((2, 1)), alpha).share for key in keys])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(np.mean(shares) - 0.5) < 5 * np.sqrt(variance / draws)
    # A variable in [0, 1] has a fourth central moment of at most 1/16.
    assert abs(np.var(shares) - variance) < 5 * np.sqrt(1 / 16 / draws)
