"""SWAG: a Gaussian over the path that stochastic gradient descent takes at a constant rate.

Maddox et al. 2019, A Simple Baseline for Bayesian Uncertainty in Deep Learning. Of n snapshots of
the weights, taken once an epoch, are kept the mean (SWA: Izmailov et al. 2018, Averaging Weights
Leads to Wider Optima), the variance of each weight, and D: the last K deviations of a snapshot from
the mean of the snapshots up to it. Half of the covariance is diagonal, half is of low rank:

    w = mean + diag^(1/2) z_1 / sqrt(2) + D z_2 / sqrt(2 (K - 1)),    z_1, z_2 ~ N(0, 1),

so that covariance = diag / 2 + D D' / (2 (K - 1)). K is the number of deviations that are stored,
not the room for them. With `rank=0` the covariance is the whole diagonal, as in the paper's
SWAG-Diagonal. The variance is a running sum of squares about the mean (Welford 1962): a difference
of E[w^2] and E[w]^2, as published, is rounding error where a weight hardly moves, or negative.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.method import Method, Model, Training
from research.methods._options import WHOLE_FROM_1, PartOfSteps, Whole, bad_option, checked, or_none
from research.methods._ring import empty_ring, if_any, put
from research.methods.point import PointState, point

TRAINING = Training(start="point", schedule="constant", keep="last")


class Collected(NamedTuple):
    """The moments of the snapshots so far."""

    count: jax.Array  # int32, n
    mean: Any  # of the snapshots; params
    squares: Any  # sum of squares about the mean; params
    deviations: Any  # the last `rank`, a ring; leaves [rank, ...]


class SwagState(NamedTuple):
    """The network that is trained, and the moments of its snapshots."""

    path: PointState
    step: jax.Array  # int32
    collected: Collected


def nothing_collected(params: Any, rank: int) -> Collected:
    """No snapshot yet, with room for `rank` deviations."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Collected(jnp.int32(0), zeros, zeros, empty_ring(params, rank))


def collect(collected: Collected, params: Any, take: jax.Array | bool = True) -> Collected:
    """Takes one more snapshot.

    Args:
        collected: the snapshots so far.
        params: the snapshot.
        take: whether to take it; it may be traced, so that a step compiles once.
    """
    number = collected.count + jnp.int32(take)

    def fresh(old, new):
        return jnp.where(take, new, old)

    def mean_of(mean, leaf):
        return fresh(mean, mean + (leaf - mean) / jnp.maximum(number, 1))

    def squares_of(squares, old_mean, new_mean, leaf):
        return fresh(squares, squares + (leaf - old_mean) * (leaf - new_mean))

    mean = jax.tree.map(mean_of, collected.mean, params)
    squares = jax.tree.map(squares_of, collected.squares, collected.mean, mean, params)
    deviations = jax.tree.map(jnp.subtract, params, mean)
    ring = put(collected.deviations, collected.count, deviations, take)
    return Collected(number, mean, squares, ring)


def variances(collected: Collected) -> Any:
    """The variance of each weight over the snapshots (divided by n); zero before the first."""
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(collected.count, 1), collected.squares)


def draw_weights(key: jax.Array, collected: Collected) -> Any:
    """One draw from the Gaussian by the equation above; without room for deviations, diagonal."""
    diagonal_key, low_rank_key = jax.random.split(key)
    noise = optax.tree.random_like(diagonal_key, collected.mean)
    rank = len(jax.tree.leaves(collected.deviations)[0])
    share = 0.5 if rank else 1.0
    stored = jnp.minimum(collected.count, rank)
    scale = jnp.sqrt(0.5 / jnp.maximum(stored - 1, 1))
    coefficients = scale * jax.random.normal(low_rank_key, (rank,))  # [rank]

    def weights(mean, variance, z, deviations):
        low_rank = jnp.tensordot(coefficients.astype(mean.dtype), deviations, 1)
        return mean + jnp.sqrt(share * variance) * z + low_rank

    return jax.tree.map(weights, collected.mean, variances(collected), noise, collected.deviations)


@checked
def swag(
    model: Model,
    tx: optax.GradientTransformation,
    num_steps: int,
    steps_per_epoch: int,
    num_samples: Whole = 30,
    rank: Whole = 20,
    collect_from: PartOfSteps = 0.25,
    every: Annotated[int | None, or_none(WHOLE_FROM_1, "for once an epoch")] = None,
) -> Method:
    """Stochastic weight averaging, and a Gaussian about the average.

    Meant to start from a trained network. Until the first snapshot it predicts with the current
    weights. The network has no batch statistics to refresh after a draw.

    Args:
        model: the network.
        tx: the optimiser; a constant learning rate, high enough to keep moving.
        num_steps: length of training.
        steps_per_epoch: length of an epoch.
        num_samples: S; 0 predicts with the mean alone (SWA).
        rank: room for deviations, K at most; 0 for the diagonal alone.
        collect_from: the part of the steps before the first snapshot, in which the path leaves the
            place where it began.
        every: steps from one snapshot to the next; None: an epoch, less where that would give
            fewer than two.

    Raises:
        UserError: an option is out of range, or fewer than two snapshots would be taken.
    """
    if rank == 1:
        raise bad_option("swag", "rank", 1, "one deviation has no covariance; give 0, or 2 or more")
    first = int(collect_from * num_steps)
    every = every or max(1, min(steps_per_epoch, (num_steps - first) // 2))
    if num_samples and num_steps - first < 2 * every:
        way_out = "snapshots; give a smaller every, or train for longer"
        problem = f"{num_steps - first} steps of collecting hold fewer than two {way_out}"
        raise bad_option("swag", "every", every, problem)
    base = point(model, tx)

    def init(key, images, start=None):
        path = base.init(key, images, start)
        return SwagState(path, jnp.int32(0), nothing_collected(path.params, rank))

    def step(key, state, batch):
        path, metrics = base.step(key, state.path, batch)
        number = state.step + 1
        take = (number > first) & ((number - first) % every == 0)
        return SwagState(path, number, collect(state.collected, path.params, take)), metrics

    def draw(key, state, index):
        collected = state.collected
        if num_samples:
            weights = draw_weights(jax.random.fold_in(key, index), collected)
        else:
            weights = collected.mean
        return if_any(collected.count, weights, state.path.params)

    def summary(state):
        return {"snapshots": state.collected.count}

    return Method(init, step, draw, base.apply, summary=summary, num_draws=max(num_samples, 1))
