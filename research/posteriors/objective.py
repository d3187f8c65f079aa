"""The scale of the variational objective, in one place.

The evidence lower bound of a whole data set of N examples is a sum; a step sees the mean negative
log-likelihood of a batch. Both divided by N: loss = mean NLL + β · KL / N, where KL is a sum over
all uncertain weights and N the number of training examples.
"""

import jax
import jax.numpy as jnp


def negative_elbo(nll: jax.Array, kl: jax.Array, num_train: int, weight=1.0) -> jax.Array:
    """What is minimised, in nats per example.

    Args:
        nll: mean over the batch.
        kl: KL(q || p), a sum over weights.
        num_train: N.
        weight: of the KL: β, the warm-up and the minibatch's weight multiplied.
    """
    return nll + weight * kl / num_train


def minibatch_weight(kind: str, step: jax.Array, steps_per_epoch: int) -> jax.Array:
    """How much of the KL this minibatch bears; 1 on the average over an epoch's M steps.

    Blundell et al. 2015, section 3.4: π_i = 2^(M-i) / (2^M - 1) for i = 1..M, here times M. Written
    as 2^-i / (1 - 2^-M), which neither overflows nor vanishes as a whole for any M.

    Args:
        kind: "uniform" (1, Graves 2011) or "blundell".
        step: of the whole training, from 0.
        steps_per_epoch: M.
    """
    if kind == "uniform":
        return jnp.float32(1.0)
    number = step % steps_per_epoch + 1
    halvings = jnp.exp2(-number.astype(jnp.float32))
    return steps_per_epoch * halvings / (1 - 2.0**-steps_per_epoch)


def warmup(step: jax.Array, warmup_steps: float) -> jax.Array:
    """Rises linearly to 1 over the first steps (Sønderby et al. 2016); 1 where there are none."""
    return jnp.minimum(1.0, (step + 1) / max(1.0, warmup_steps)).astype(jnp.float32)
