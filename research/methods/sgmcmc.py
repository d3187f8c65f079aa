"""Stochastic-gradient MCMC: training with the noise that makes its path a posterior sample.

Everything is per datum. With U(w)/N = mean NLL + prior energy / N and g its minibatch gradient, the
target is exp(-U(w)/T). For a learning rate r that varies in time:

    SGLD   w <- w - r g + sqrt(2 r T / N) z                    (Welling & Teh 2011)
    SGHMC  v <- (1 - a) v - a r g + a sqrt(2 r T / N) z        (Chen, Fox & Guestrin 2014, eq. 15)
           w <- w + v

Without noise, SGLD is gradient descent at rate r and SGHMC is gradient descent at rate a r with
momentum 1 - a, which goes equally far: a rate that trains with SGD serves both. (Chen et al. write
the rate as eta = a r / N on the sum over the data.) The noise is of temperature T/N: a mean loss
with noise of unit temperature samples a posterior of one datum.

Cycles: Zhang et al. 2020, Cyclical Stochastic Gradient MCMC. The rate falls by half a cosine in
each of M cycles; the first part of a cycle explores without noise, the rest samples.

blackjax has both kernels, but with schedules of its own and on the summed loss; the kernels are one
line each, so they are written here.
"""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.method import Method, Model, Training
from research.methods._options import (
    FROM_0,
    Count,
    NonNegative,
    PartOfSteps,
    Whole,
    bad_option,
    checked,
    number,
    or_none,
)
from research.methods._ring import empty_ring, if_any, put

TRAINING = Training(start="point", learning_rate=50.0, schedule="constant", keep="last")


class SgmcmcState(NamedTuple):
    """The chain and its ring of kept samples."""

    params: Any
    velocity: Any  # of SGHMC; SGLD leaves it at zero
    step: jax.Array  # int32
    kept: jax.Array  # int32, how many samples were kept so far
    samples: Any  # leaves [K, ...]


class Plan(NamedTuple):
    """The schedule of a chain; arrays [num_steps]."""

    rate: np.ndarray  # float32, a factor of the learning rate
    noise: np.ndarray  # float32, a factor of the temperature: 0 or 1
    keep: np.ndarray  # bool, whether the weights after the step are kept


def plan(num_steps: int, cycles: int, burn_in: float, num_samples: int) -> Plan:
    """Rates, noise and kept samples, step by step.

    The samples are spread evenly over the last parts of the cycles; the last one of a cycle is its
    last step.

    Args:
        num_steps: length of training.
        cycles: M; 0 for one cycle at a constant rate, with noise from the first step.
        burn_in: the part of a cycle from which nothing is kept.
        num_samples: K, the number of samples that are kept in all; at least M.
    """
    edges = np.linspace(0, num_steps, max(cycles, 1) + 1).astype(int)
    shares = np.diff(np.linspace(0, num_samples, max(cycles, 1) + 1).astype(int))
    rate, noise = np.ones(num_steps, np.float32), np.ones(num_steps, np.float32)
    keep = np.zeros(num_steps, bool)
    for begin, end, share in zip(edges[:-1], edges[1:], shares, strict=True):
        length = end - begin
        sampling = length - int(burn_in * length)
        if cycles:
            rate[begin:end] = 0.5 * (1 + np.cos(np.pi * np.arange(length) / length))
            noise[begin : end - sampling] = 0.0
        thinning = max(1, sampling // share)
        keep[end - 1 - thinning * np.arange(min(share, sampling))] = True
    return Plan(rate, noise, keep)


def langevin(params: Any, gradient: Any, noise: Any, rate, temperature) -> Any:
    """One step of SGLD.

    Args:
        params: w.
        gradient: the gradient of U/N.
        noise: standard normals in the shape of `params`.
        rate: r.
        temperature: T/N.
    """
    scale = jnp.sqrt(2 * rate * temperature)
    return jax.tree.map(lambda w, g, z: w - rate * g + scale * z, params, gradient, noise)


def hamiltonian(
    params: Any, velocity: Any, gradient: Any, noise: Any, rate, temperature, friction
) -> tuple[Any, Any]:
    """One step of SGHMC; arguments as of `langevin`, and the rest:

    Args:
        velocity: v.
        friction: a, 0 to 1; 1 minus the momentum.

    Returns:
        The new `params` and `velocity`.
    """
    scale = friction * jnp.sqrt(2 * rate * temperature)

    def moved(v, g, z):
        return (1 - friction) * v - friction * rate * g + scale * z

    velocity = jax.tree.map(moved, velocity, gradient, noise)
    return jax.tree.map(jnp.add, params, velocity), velocity


def prior_energy(params: Any, precision: float | None) -> Any:
    """-log N(w; 0, 1/precision), summed over the weights, without its constant.

    Args:
        params: w.
        precision: the prior precision of every weight; None: for kernels fan_in/2 (the inverse
            variance of He's initial weights, so that draws from the prior are working networks),
            1 for biases.
    """

    def energy(leaf):
        by_fan_in = leaf.size / leaf.shape[-1] / 2 if leaf.ndim > 1 else 1.0
        return 0.5 * (by_fan_in if precision is None else precision) * jnp.sum(leaf**2)

    return sum(energy(leaf) for leaf in jax.tree.leaves(params))


@checked
def sgmcmc(
    model: Model,
    learning_rate: optax.ScalarOrSchedule,
    num_train: int,
    num_steps: int,
    kernel: Literal["sgld", "sghmc"] = "sghmc",
    cycles: Whole = 4,
    burn_in: PartOfSteps = 0.5,
    temperature: NonNegative = 1.0,
    prior_precision: Annotated[float | None, or_none(FROM_0, "for fan-in")] = None,
    friction: Annotated[
        float, number(lambda value: 0 < value <= 1, "a number above 0, at most 1")
    ] = 0.1,
    num_samples: Count = 20,
) -> Method:
    """A chain of networks from the posterior; prediction averages over the kept ones.

    Args:
        model: the network.
        learning_rate: r, that of plain SGD on the mean loss; with cycles, their peak.
        num_train: N.
        num_steps: length of training.
        kernel: "sgld" or "sghmc".
        cycles: M cosine restarts; 0 for a constant rate.
        burn_in: the part of a cycle, or of a chain at a constant rate, from which nothing is kept.
        temperature: T; 1 for the posterior, below 1 for a colder, sharper one.
        prior_precision: the prior precision of every weight; None: by fan-in (`prior_energy`).
        friction: a of SGHMC; 1 minus the momentum.
        num_samples: S = K, the size of the ring, in which new samples replace the oldest.

    Raises:
        UserError: an option is out of range.
    """
    if num_samples < cycles:
        way_out = f"give a whole number from {cycles}: every cycle keeps at least one"
        raise bad_option("sgmcmc", "num_samples", num_samples, way_out)
    timetable = plan(num_steps, cycles, burn_in, num_samples)
    rate_at = learning_rate if callable(learning_rate) else lambda step: learning_rate

    def init(key, images, start=None):
        params = model.initial(key, images, start)
        zeros = jax.tree.map(jnp.zeros_like, params)
        samples = empty_ring(params, num_samples)
        return SgmcmcState(params, zeros, jnp.int32(0), jnp.int32(0), samples)

    def step(key, state, batch):
        dropout_key, noise_key = jax.random.split(key)

        def energy(params):
            outputs = model.apply(params, batch.images, dropout_key)
            metrics = model.likelihood.metrics(outputs, batch.labels)
            metrics["loss"] = metrics["nll"] + prior_energy(params, prior_precision) / num_train
            return metrics["loss"], metrics

        gradient, metrics = jax.grad(energy, has_aux=True)(state.params)
        noise = optax.tree.random_like(noise_key, state.params)
        rate, noisy, keep = (jnp.asarray(column)[state.step] for column in timetable)
        rate *= rate_at(state.step)
        heat = noisy * temperature / num_train
        velocity = state.velocity
        if kernel == "sgld":
            params = langevin(state.params, gradient, noise, rate, heat)
        else:
            params, velocity = hamiltonian(
                state.params, velocity, gradient, noise, rate, heat, friction
            )
        samples = put(state.samples, state.kept, params, keep)
        state = SgmcmcState(params, velocity, state.step + 1, state.kept + keep, samples)
        return state, metrics

    def draw(key, state, index):
        del key  # the samples were drawn in training
        number = index % jnp.clip(state.kept, 1, num_samples)
        drawn = jax.tree.map(lambda places: places[number], state.samples)
        return if_any(state.kept, drawn, state.params)

    def summary(state):
        return {"samples": jnp.minimum(state.kept, num_samples)}

    return Method(init, step, draw, model.predictive, summary=summary, num_draws=num_samples)
