"""The reference of `experiments.fidelity`: the predictive of the exact posterior, by NUTS.

Hoffman & Gelman 2014, The No-U-Turn Sampler: Hamiltonian Monte Carlo that chooses its own path
length. For a network of a few hundred weights it can be run until its chains agree, and its
predictive is the one that every other method approximates (Izmailov et al. 2021, What Are Bayesian
Neural Network Posteriors Really Like?, do the same at scale). The unnormalised log-posterior is

    log p(w | D) = -(precision / 2) |w|^2 + sum_n log p(y_n | x_n, w).

The weights themselves never mix (units can be swapped), and need not: R-hat and the effective
sample size are those of the predictive probabilities. Sampler and diagnostics are blackjax's.
"""

from typing import NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from blackjax.diagnostics import effective_sample_size, potential_scale_reduction

from research.method import Batch, Model


class Chains(NamedTuple):
    """How long NUTS runs."""

    chains: int
    warmup: int  # steps that adapt step size and mass matrix; their draws are discarded
    draws: int  # kept of each chain


class Reference(NamedTuple):
    """The exact predictive and the diagnostics of its chains."""

    probs: np.ndarray  # [G, K], the mean over all draws
    r_hat: float  # the largest over the grid, of split chains; 1 where all agree
    effective_draws: float  # the smallest over the grid
    divergences: int  # steps that the integrator did not follow


def nuts(
    key: jax.Array, model: Model, precision: float, batch: Batch, grid: jax.Array, length: Chains
) -> Reference:
    """Samples the posterior of a network with the prior N(0, 1 / precision) on every weight.

    Chains start from draws of the prior and adapt on their own.

    Args:
        key: decides starts and paths.
        model: a small network.
        precision: of the prior, biases included.
        batch: the whole of the training data.
        grid: where to predict, [G, ...].
        length: of the chains.
    """

    def log_posterior(params):
        square = optax.tree_utils.tree_norm(params, squared=True)
        log_probs = jax.nn.log_softmax(model.apply(params, batch.images))
        return -0.5 * precision * square + jnp.sum(
            jnp.take_along_axis(log_probs, batch.labels[:, None], axis=-1)
        )

    def run(key):
        start_key, warm_key, draw_key = jax.random.split(key, 3)
        shapes = jax.eval_shape(model.init, key, batch.images)
        noise = optax.tree_utils.tree_random_like(start_key, shapes, jax.random.normal)
        start = jax.tree.map(lambda leaf: leaf / jnp.sqrt(precision), noise)
        warm = blackjax.window_adaptation(blackjax.nuts, log_posterior)
        (state, parameters), _ = warm.run(warm_key, start, num_steps=length.warmup)  # pyright: ignore[reportCallIssue]
        step = blackjax.nuts(log_posterior, **parameters).step

        def one(state, key):
            state, info = step(key, state)
            probs = jax.nn.softmax(model.apply(state.position, grid))  # pyright: ignore[reportAttributeAccessIssue]
            return state, (probs, info.is_divergent)  # pyright: ignore[reportAttributeAccessIssue]

        return jax.lax.scan(one, state, jax.random.split(draw_key, length.draws))[1]

    # The code of blackjax promotes ranks.
    with jax.numpy_rank_promotion("allow"):
        probs, divergent = jax.jit(jax.vmap(run))(jax.random.split(key, length.chains))
        # Chains are split, so that one that drifts disagrees with itself (Gelman et al. 2013).
        halves = probs[..., 1].reshape(2 * length.chains, -1, len(grid))  # [2 chains, draws/2, G]
        r_hat = potential_scale_reduction(halves)
        effective = effective_sample_size(halves)
    return Reference(
        np.mean(np.asarray(probs, np.float64), axis=(0, 1)),
        float(np.max(r_hat)),
        float(np.min(effective)),
        int(np.sum(divergent)),
    )
