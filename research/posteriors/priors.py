"""Priors over weights, and KL(q || p) of a mean-field Gaussian q, summed over weights, in nats.

In closed form for the Gaussian, the Laplace and the hierarchical prior; the scale mixture has none,
so its KL is log q(w) - log p(w) at the one draw w ~ q of the step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.posteriors.mean_field import MeanField, log_prob, sigma, total
from research.posteriors.parameters import Leaves


class Prior(NamedTuple):
    """How far a posterior is from the prior."""

    kl: Callable[[MeanField, Leaves | None], jax.Array]  # (posterior, a draw of it or None) -> nats
    needs_draw: bool = False


def gaussian(scale: Leaves, centre: Leaves | None = None) -> Prior:
    """p(w) = N(centre, scale²).

    KL = Σ log(s/σ) + (σ² + (μ - c)²) / (2 s²) - 1/2.

    Args:
        scale: standard deviations s by path, each a number or of the weights' shape.
        centre: means c by path, such as trained weights; None: 0.
    """

    def kl(posterior, draw=None):
        del draw

        def one(mean, deviation, s):
            spread = (jnp.square(deviation) + jnp.square(mean)) / (2 * jnp.square(s))
            return spread - jnp.log(deviation) + jnp.log(s) - 0.5

        mean = posterior.mean
        offset = mean if centre is None else jax.tree.map(jnp.subtract, mean, centre)
        return total(one, offset, sigma(posterior), scale)

    return Prior(kl)


def laplace(scale: Leaves) -> Prior:
    """p(w) = exp(-|w|/b) / (2b).

    KL = Σ log(2b) + E|w|/b - log(σ sqrt(2πe)), with the mean of a folded normal,
    E|w| = σ sqrt(2/π) exp(-μ²/2σ²) + μ erf(μ / (σ sqrt 2)).

    Args:
        scale: b by path; the prior's standard deviation is b sqrt 2.
    """

    def kl(posterior, draw=None):
        del draw

        def one(mean, deviation, b):
            z = mean / deviation
            density = jnp.sqrt(2 / jnp.pi) * jnp.exp(-0.5 * jnp.square(z))
            size = deviation * density + mean * jax.lax.erf(z * 0.5**0.5)
            entropy = jnp.log(deviation) + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
            return jnp.log(2 * b) + size / b - entropy

        return total(one, posterior.mean, sigma(posterior), scale)

    return Prior(kl)


def hierarchical() -> Prior:
    """p(w) = N(0, s²) with one s per tensor, a layer's kernel or its bias, at its optimum.

    Empirical Bayes (Wu et al. 2019, Deterministic Variational Inference for Robust Bayesian Neural
    Networks, section 4): the Gaussian KL is lowest at s² = mean(σ² + μ²), where it is
    Σ log(s/σ). There is nothing to tune; a layer that the data do not need shrinks.
    """

    def kl(posterior, draw=None):
        del draw

        def one(mean, deviation):
            variance = jnp.mean(jnp.square(deviation) + jnp.square(mean))
            return 0.5 * jnp.log(variance) - jnp.log(deviation)

        return total(one, posterior.mean, sigma(posterior))

    return Prior(kl)


def mixture_log_prob(weights: jax.Array, pi: float, sigma_1: float, sigma_2: float) -> jax.Array:
    """log(π N(w; 0, σ₁²) + (1 - π) N(w; 0, σ₂²)) of each weight, in log space.

    Args:
        weights: any shape.
        pi: share of the first component, strictly between 0 and 1.
        sigma_1: standard deviation of the wide component.
        sigma_2: of the narrow one.

    Returns:
        The weights' shape, nats.
    """
    logpdf = jax.scipy.stats.norm.logpdf
    return jnp.logaddexp(
        jnp.log(pi) + logpdf(weights, 0.0, sigma_1),
        jnp.log1p(-pi) + logpdf(weights, 0.0, sigma_2),
    )


def mixture(pi: float, sigma_1: float, sigma_2: float) -> Prior:
    """The scale mixture of Blundell et al. 2015, equation 7; arguments as `mixture_log_prob`."""

    def kl(posterior, draw):
        log_p = total(lambda w: mixture_log_prob(w, pi, sigma_1, sigma_2), draw)
        return log_prob(posterior, draw) - log_p

    return Prior(kl, needs_draw=True)
