"""What a network can be trained to minimise besides the plain negative log-likelihood.

Label smoothing (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7), the focal
loss (Lin et al. 2017; Mukhoti et al. 2020, Calibrating Deep Neural Networks using Focal Loss) and
mixup (Zhang et al. 2018). All three keep a network from being rewarded for ever larger logits. They
work on target distributions t [B, K], so they combine:

    loss = -sum_k t_k (1 - p_k)^gamma log p_k

None of them is a likelihood. A method that is derived from one (a posterior over weights) keeps the
plain negative log-likelihood; only `point` offers these.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def smooth(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """Label smoothing: 1 - smoothing on the label, and `smoothing` spread evenly over all classes.

    Args:
        labels: [B] int.
        num_classes: K.
        smoothing: from 0 (one-hot) to below 1.

    Returns:
        Targets [B, K] float32, each summing to 1.
    """
    return (1.0 - smoothing) * jax.nn.one_hot(labels, num_classes) + smoothing / num_classes


def focal(logits: jax.Array, targets: jax.Array, gamma: float) -> jax.Array:
    """The focal loss of each example: an example that is right already counts less.

    Args:
        logits: [B, K].
        targets: [B, K], each summing to 1.
        gamma: 0 or more; 0 is the cross-entropy.

    Returns:
        [B], nats.
    """
    log_probs = jax.nn.log_softmax(logits)
    # The floor is for saturated logits: there 1 - p is 0, and the slope of a power of it has no
    # bound for gamma < 1.
    others = jnp.maximum(-jnp.expm1(log_probs), jnp.finfo(log_probs.dtype).eps)  # 1 - p
    return -jnp.sum(targets * others**gamma * log_probs, axis=-1)


class Mixed(NamedTuple):
    """A batch of which every image is laid over another one of it."""

    images: jax.Array  # [B, ...] float32
    partners: jax.Array  # [B] int: which other image each was mixed with
    share: jax.Array  # scalar from 0 to 1: how much of an example is its own image


def mixup(key: jax.Array, images: jax.Array, alpha: float) -> Mixed:
    """share * image + (1 - share) * partner, with one share ~ Beta(alpha, alpha) for the batch.

    Args:
        key: decides the partners, a permutation of the batch, and the share.
        images: [B, ...], uint8 or float.
        alpha: above 0; 1 is uniform, small values mix little.
    """
    share_key, partner_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha)
    partners = jax.random.permutation(partner_key, len(images))
    images = images.astype(jnp.float32)
    return Mixed(share * images + (1.0 - share) * images[partners], partners, share)
