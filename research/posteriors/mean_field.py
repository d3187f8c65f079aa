"""The mean-field Gaussian: every stochastic weight has a mean and a standard deviation of its own.

Blundell et al. 2015, Weight Uncertainty in Neural Networks, section 3.2: q(w) = N(w; μ, σ²) with
σ = softplus(ρ) = log(1 + exp ρ); a draw is w = μ + σ ε with ε ~ N(0, 1).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.posteriors.noise import normal
from research.posteriors.parameters import Leaves, fan_in

SMALLEST_WEIGHT = 0.1  # times 1/sqrt(fan-in): the least |w| that σ₀ is measured by


class MeanField(NamedTuple):
    """Means and scales of the stochastic weights: two flat dicts by path, of the same shapes."""

    mean: Leaves  # μ
    rho: Leaves  # σ = softplus(ρ); -inf: σ is exactly 0


def softplus_inverse(sigma: jax.Array) -> jax.Array:
    """ρ of σ = softplus(ρ); -inf of 0. Neither overflows nor loses small σ."""
    return sigma + jnp.log(-jnp.expm1(-sigma))


def sigma(posterior: MeanField) -> Leaves:
    """Standard deviations by path."""
    return {path: jax.nn.softplus(rho) for path, rho in posterior.rho.items()}


def units(weights: Leaves, relative_to: str) -> Leaves:
    """The units of standard deviations: a number for each path, or one for each weight.

    Args:
        weights: weights by path.
        relative_to: "fan_in": 1/sqrt(fan-in), the size at which a layer's noise equals its input;
            "weight": |w|, or a tenth of 1/sqrt(fan-in) where |w| is smaller, because a weight of 0
            would have no noise; "none": 1.
    """

    def unit(path, weight):
        if relative_to == "none":
            return jnp.float32(1.0)
        per_input = jnp.float32(fan_in(path, weights) ** -0.5)
        if relative_to == "fan_in":
            return per_input
        return jnp.maximum(jnp.abs(weight), SMALLEST_WEIGHT * per_input)

    return {path: unit(path, weight) for path, weight in weights.items()}


def around(weights: Leaves, initial_sigma: float, relative_to: str) -> MeanField:
    """The posterior before training: means are the weights, σ₀ is `initial_sigma` units.

    Args:
        weights: the means, by path.
        initial_sigma: σ₀, above 0, in the units of `relative_to`.
        relative_to: the units; see `units`.
    """

    def rho(weight, unit):
        wanted = softplus_inverse(initial_sigma * unit)
        return jnp.broadcast_to(wanted, weight.shape).astype(weight.dtype)

    # The means are a copy: a step that gives its state away must not take the start with it.
    means = jax.tree.map(jnp.array, weights)
    return MeanField(means, jax.tree.map(rho, means, units(weights, relative_to)))


def perturbations(key: jax.Array, posterior: MeanField, paths: tuple[str, ...]) -> Leaves:
    """σ ε for the weights of these paths."""
    if not paths:
        return {}
    leaves = [posterior.rho[path] for path in paths]
    ends = np.cumsum([leaf.size for leaf in leaves])
    # One stream for all tensors compiles to one loop. The barrier keeps XLA from generating it
    # again for every use of ε; on a CPU, where barriers are removed, `normal` does that.
    stream = jax.lax.optimization_barrier(normal(key, (int(ends[-1]),)))
    return {
        path: jax.nn.softplus(rho) * stream[end - rho.size : end].reshape(rho.shape)
        for path, rho, end in zip(paths, leaves, ends, strict=True)
    }


def sample(key: jax.Array, posterior: MeanField) -> Leaves:
    """One draw of every stochastic weight, by path."""
    noise = perturbations(key, posterior, tuple(posterior.mean))
    return jax.tree.map(jnp.add, posterior.mean, noise)


def total(per_leaf: Callable[..., jax.Array], *trees: Leaves) -> Any:
    """The sum over all weights of a function of their values in one or more trees."""
    return sum(jax.tree.leaves(jax.tree.map(lambda *leaves: jnp.sum(per_leaf(*leaves)), *trees)))


def log_prob(posterior: MeanField, weights: Leaves) -> Any:
    """log q(weights), nats, summed over all weights."""
    return total(jax.scipy.stats.norm.logpdf, weights, posterior.mean, sigma(posterior))


def signal_to_noise(posterior: MeanField) -> Leaves:
    """|μ|/σ by path: 0 for a pruned weight, infinite where only σ is 0."""

    def one(mean, deviation):
        ratio = jnp.abs(mean) / jnp.where(deviation > 0, deviation, 1.0)
        return jnp.where((deviation > 0) | (mean == 0), ratio, jnp.inf)

    return jax.tree.map(one, posterior.mean, sigma(posterior))


def prune(posterior: MeanField, fraction: float) -> MeanField:
    """Sets μ and σ of the weights of lowest |μ|/σ to 0 (Blundell et al. 2015, section 5.1).

    Args:
        posterior: the posterior to prune.
        fraction: the share of all stochastic weights that is pruned, 0 to 1.
    """
    ratios = signal_to_noise(posterior)
    everything = np.concatenate([np.ravel(leaf) for leaf in ratios.values()])
    count = round(fraction * everything.size)
    threshold = np.inf if count == everything.size else np.partition(everything, count)[count]

    def cut(leaves, value):
        return {path: jnp.where(ratios[path] < threshold, value, leaf) for path, leaf in leaves}

    return MeanField(cut(posterior.mean.items(), 0.0), cut(posterior.rho.items(), -jnp.inf))
