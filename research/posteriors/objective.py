"""The scale of the variational objective, in one place.

The evidence lower bound of a whole data set of N examples is a sum; a step sees the mean negative
log-likelihood of a batch. Both divided by N: loss = mean NLL + β · KL / N, where KL is a sum over
all stochastic weights and N the number of training examples.
"""

import jax
import jax.numpy as jnp


def negative_elbo(nll: jax.Array, kl: jax.Array, num_train: int, weight=1.0) -> jax.Array:
    """The loss that training minimises, in nats per example.

    Args:
        nll: the negative log-likelihood, a mean over the batch.
        kl: KL(q || p), a sum over weights.
        num_train: N.
        weight: the weight of the KL: the product of β, the warm-up and the minibatch's weight.
    """
    return nll + weight * kl / num_train


def minibatch_weight(kind: str, step: jax.Array, steps_per_epoch: int) -> jax.Array:
    """The weight of the KL in this minibatch; its mean over an epoch's M steps is 1.

    Blundell et al. 2015, section 3.4: π_i = 2^(M-i) / (2^M - 1) for i = 1..M, here times M. Written
    as 2^-i / (1 - 2^-M), which neither overflows nor vanishes as a whole for any M.

    Args:
        kind: "uniform" (1, Graves 2011) or "blundell".
        step: the number of the step in the whole training, from 0.
        steps_per_epoch: M.
    """
    if kind == "uniform":
        return jnp.float32(1.0)
    number = step % steps_per_epoch + 1
    halvings = jnp.exp2(-number.astype(jnp.float32))
    return steps_per_epoch * halvings / (1 - 2.0**-steps_per_epoch)


def warmup(step: jax.Array, warmup_steps: float) -> jax.Array:
    """A weight that rises linearly to 1 over the first steps (Sønderby et al. 2016).

    It is 1 from the start where `warmup_steps` is at most 1.
    """
    return jnp.minimum(1.0, (step + 1) / max(1.0, warmup_steps)).astype(jnp.float32)
