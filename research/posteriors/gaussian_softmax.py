"""The mean of a softmax over Gaussian logits, without draws.

Two closed approximations to E[softmax(z)], z ~ N(m, S). Both see only differences between logits,
as the softmax does, and both are the softmax itself where S = 0.

- probit: for two classes MacKay 1992, sigmoid(m / sqrt(1 + pi/8 S)); for more, its pairwise form
  (Lu, Ie & Sha 2020, Mean-Field Approximation to Gaussian-Softmax Integral):
  1/p_k ~ sum_j exp(-(m_k - m_j) / sqrt(1 + pi/8 Var(z_k - z_j))).
- bridge: the Dirichlet of Hobbhahn, Kristiadi & Hennig 2022, Fast Predictive Uncertainty for
  Classification with Bayesian Deep Networks:
  alpha_k = (1 - 2/K + exp(m_k)/K^2 sum_j exp(-m_j)) / S_kk.
"""

import math

import jax
import jax.numpy as jnp


def two_logits(outputs: jax.Array) -> jax.Array:
    """Logits of the last layer's outputs: one unit is the z of (0, z), more are the logits.

    Args:
        outputs: [B, F], or their covariance [B, F, F].
    """
    if outputs.shape[-1] > 1:
        return outputs
    return jnp.pad(outputs, [(0, 0)] + [(1, 0)] * (outputs.ndim - 1))


def probit(mean: jax.Array, covariance: jax.Array) -> jax.Array:
    """Log-probabilities by the (pairwise) probit approximation.

    Args:
        mean: [B, K].
        covariance: [B, K, K].

    Returns:
        [B, K], normalised.
    """
    variances = jnp.diagonal(covariance, axis1=1, axis2=2)  # [B, K]
    of_difference = variances[:, :, None] + variances[:, None] - 2 * covariance
    of_difference = jnp.maximum(of_difference, 0.0)
    differences = mean[:, :, None] - mean[:, None]  # [B, K, K]: k against j
    scaled = differences / jnp.sqrt(1 + math.pi / 8 * of_difference)
    return jax.nn.log_softmax(-jax.nn.logsumexp(-scaled, axis=-1))


def bridge(mean: jax.Array, covariance: jax.Array) -> jax.Array:
    """Log-probabilities of the Dirichlet's mean, by the Laplace bridge.

    Logits are first centred (their common shift means nothing). The bare bridge does not see the
    overall scale of S: its mean stays as sure as m. As its authors' code does, the logits are
    therefore divided by the square root of c = mean_k S_kk / sqrt(K / 2), and S by c; here only
    where c > 1, because a small variance must not make a prediction surer.

    Args:
        mean: [B, K].
        covariance: [B, K, K].

    Returns:
        [B, K], normalised; the softmax of `mean` where the variance is zero.
    """
    classes = mean.shape[-1]
    mean = mean - jnp.mean(mean, axis=-1, keepdims=True)
    rows = jnp.mean(covariance, axis=-1)  # [B, K]
    variances = jnp.diagonal(covariance, axis1=1, axis2=2) - 2 * rows
    variances = jnp.maximum(variances + jnp.mean(rows, axis=-1, keepdims=True), 1e-30)
    scale = jnp.mean(variances, axis=-1, keepdims=True) / math.sqrt(classes / 2)  # c
    known = scale <= 1e-30
    mean = mean / jnp.sqrt(jnp.maximum(scale, 1.0))
    # log of sum_j exp(m_k - m_j) / K^2, so that sure logits do not overflow.
    log_ratio = mean + jax.nn.logsumexp(-mean, axis=-1, keepdims=True) - 2 * math.log(classes)
    rest = math.log(1 - 2 / classes) if classes > 2 else -jnp.inf
    log_alpha = jnp.logaddexp(log_ratio, rest) - jnp.log(variances)
    return jax.nn.log_softmax(jnp.where(known, mean, log_alpha))
