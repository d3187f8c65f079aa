"""The whole vocabulary of Candor.

A `Model` is what a method knows of a network; a `Method` is how a distribution over networks is
initialised, trained, finished and asked.

Dimension letters, in every shape comment: S draws, M members, N examples, B batch, K classes,
H height, W width, C channels. Key first, state second, data last. Randomness is not state: a step's
key is `fold_in(root_key, step)`, so a resumed run equals an uninterrupted one to the bit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """What a training step sees."""

    images: jax.Array  # [B, H, W, C] uint8, or cached features [B, ...] float32
    labels: jax.Array  # [B] int32


class Model(NamedTuple):
    """What a method knows of Flax: two pure functions. Preprocessing is part of the model."""

    init: Callable[..., Any]  # (key, images) -> params
    apply: Callable[..., jax.Array]  # (params, images, key=None) -> logits [B, K]; None: no dropout


def no_finish(key: jax.Array, state: Any, dataset: Any) -> Any:
    """The pass after training of a method that needs none."""
    del key, dataset
    return state


class Method(NamedTuple):
    """Four pure functions over one state pytree.

    `predict` returns S normalised log-probability vectors per example. Its key fixes the S
    functions drawn: the same key gives the same draws for every batch, so that draws can be
    compared across images. `finish` runs once after training (Laplace, temperature) and may read
    the data set's splits.
    """

    init: Callable[..., Any]  # (key, images) -> state
    step: Callable[..., tuple[Any, dict]]  # (key, state, batch) -> (state, metrics)
    predict: Callable[..., jax.Array]  # (key, state, images) -> log_probs [S, B, K]
    finish: Callable[..., Any] = no_finish  # (key, state, dataset) -> state


def batch_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """What every step reports of its batch.

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
