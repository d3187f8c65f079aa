"""What a network's outputs mean: a likelihood of labels given outputs.

A `Model` carries one. Categorical is the default, and what all of Candor's measuring is for; the
Gaussian makes the same methods fit a curve or an expected reward (Blundell et al. 2015, sections
5.2 and 5.3), and gives tests a posterior in closed form.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Likelihood(NamedTuple):
    """Two pure functions of a network's outputs."""

    metrics: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]  # (outputs, labels) -> scalars
    predictive: Callable[[jax.Array], jax.Array]  # outputs -> what a method's `apply` gives


def batch_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """What every step of a classifier reports of its batch.

    Args:
        logits: [B, K].
        labels: [B] int.

    Returns:
        `nll` (nats), `accuracy` and `confidence` (both 0 to 1), each a float32 scalar.
    """
    log_probs = jax.nn.log_softmax(logits)  # [B, K]
    return {
        "nll": -jnp.mean(jnp.take_along_axis(log_probs, labels[:, None], axis=-1)),
        "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels),
        "confidence": jnp.mean(jnp.exp(jnp.max(log_probs, axis=-1))),
    }


CATEGORICAL = Likelihood(batch_metrics, jax.nn.log_softmax)


def gaussian(noise: float) -> Likelihood:
    """p(y | x) = N(y; output, noise²) with known noise.

    `apply` then gives the outputs [B, 1] as they are, and labels are [B] float32. Metrics are
    `nll` (nats, mean over the batch) and `error`, the mean squared error.

    Args:
        noise: standard deviation, in the labels' unit.
    """

    def metrics(outputs, labels):
        error = jnp.mean(jnp.square(outputs[:, 0] - labels))
        nll = error / (2 * noise**2) + math.log(noise) + 0.5 * math.log(2 * math.pi)
        return {"nll": nll, "error": error}

    return Likelihood(metrics, lambda outputs: outputs)
