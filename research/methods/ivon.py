"""IVON: a Gaussian with a variance of its own for each weight, at about the cost of Adam.

Shen et al. 2024, Variational Learning is Effective for Large Deep Networks (algorithm 1). The
objective is that of Bayes by Backprop with the Gaussian prior N(0, 1/precision), per datum:

    E_q[mean NLL] + KL[q || prior] / N,    q = N(m, s^2),    s^2 = 1 / (N (h + d)),

where d = precision / N is the weight decay of the mean loss. Natural-gradient descent needs the
diagonal of the expected Hessian; the reparameterisation trick estimates it from the gradient g at
one draw w = m + s z, with no second derivative: h^ = g (w - m) / s^2. With bias-corrected momentum:

    g_m <- b1 g_m + (1 - b1) g
    h + d <- (h + d) (1 + x + x^2 / 2),    x = (1 - b2) (h^ - h) / (h + d)
    m <- m - r (h0 + d) (g_m / (1 - b1^t) + d m) / (h + d)

The middle line is the paper's b2 h + (1 - b2) h^ + (1 - b2)^2 (h - h^)^2 / (2 (h + d)); written so,
it shows that h + d at least halves and stays positive. The rate is scaled by its first step size
h0 + d, so that r is that of SGD.

optax has no such transformation, and it needs the draw as well as the gradient; hence this file.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from research.method import Method, Model, Training
from research.methods._options import ABOVE_0, BelowOne, Count, Positive, checked, number, or_none

TRAINING = Training(start="point", learning_rate=5.0, schedule="cosine", keep="last")
MEMORY = number(lambda value: 0 < value < 1, "a number above 0 and below 1")


class IvonState(NamedTuple):
    """The Gaussian and the momentum."""

    mean: Any  # m
    hessian: Any  # h, of the mean loss
    momentum: Any  # g_m
    step: jax.Array  # int32


def sigma(hessian: jax.Array, num_train: int, weight_decay: float) -> jax.Array:
    """The standard deviation 1 / sqrt(N (h + d)) of the weights of one leaf."""
    return jax.lax.rsqrt(num_train * (hessian + weight_decay))


def draw_weights(noise: Any, state: IvonState, num_train: int, weight_decay: float) -> Any:
    """m + s z for standard normal z."""

    def weights(mean, hessian, z):
        return mean + sigma(hessian, num_train, weight_decay) * z

    return jax.tree.map(weights, state.mean, state.hessian, noise)


def initial_hessian(params: Any, num_train: int, h0: float | None) -> Any:
    """The first h, a number for each leaf.

    Args:
        params: the means.
        num_train: N.
        h0: the first h of every leaf; None: the h at which s is a twentieth of He's initial
            standard deviation sqrt(2 / fan_in), or of 0.1 for biases.
    """

    def first(leaf):
        variance = 2 * leaf.shape[-1] / leaf.size if leaf.ndim > 1 else 0.01
        return 400 / (num_train * variance) if h0 is None else h0

    return jax.tree.map(first, params)


class Constants(NamedTuple):
    """The numbers that are the same in all steps."""

    num_train: int  # N
    weight_decay: float  # d
    beta1: float  # memory of the gradient's mean
    beta2: float  # memory of the Hessian's mean
    h0: float | None  # see `initial_hessian`


def update(
    state: IvonState, gradient: Any, noise: Any, rate: ArrayLike, constants: Constants
) -> IvonState:
    """One step of IVON.

    Args:
        state: the Gaussian before the step.
        gradient: the gradient of the mean NLL at `draw_weights(noise, state, ...)`.
        noise: the z of that draw.
        rate: r.
        constants: N, d and the memories.
    """
    num_train, weight_decay, beta1, beta2, h0 = constants
    number = state.step + 1
    momentum = jax.tree.map(
        lambda old, new: beta1 * old + (1 - beta1) * new, state.momentum, gradient
    )

    def curvature(hessian, g, z):
        estimate = g * z / sigma(hessian, num_train, weight_decay)
        relative = (1 - beta2) * (estimate - hessian) / (hessian + weight_decay)
        return (hessian + weight_decay) * (1 + relative + 0.5 * relative**2) - weight_decay

    def descend(mean, hessian, g, first):
        direction = (g / (1 - beta1**number) + weight_decay * mean) / (hessian + weight_decay)
        return mean - rate * (first + weight_decay) * direction

    hessian = jax.tree.map(curvature, state.hessian, gradient, noise)
    first = initial_hessian(state.mean, num_train, h0)
    mean = jax.tree.map(descend, state.mean, hessian, momentum, first)
    return IvonState(mean, hessian, momentum, number)


@checked
def ivon(
    model: Model,
    learning_rate: optax.ScalarOrSchedule,
    num_train: int,
    num_steps: int,
    prior_precision: Positive = 10.0,
    h0: Annotated[float | None, or_none(ABOVE_0, "to begin by fan-in")] = None,
    beta1: BelowOne = 0.9,
    beta2: Annotated[float | None, or_none(MEMORY, "for 1 - 2/num_steps")] = None,
    num_samples: Count = 10,
) -> Method:
    """The improved variational online Newton method.

    Args:
        model: the network.
        learning_rate: r.
        num_train: N, the effective sample size.
        num_steps: length of training.
        prior_precision: 1 / variance of every weight's prior; the weight decay is this over N. The
            paper's 2e-4 at N = 50,000 is 10.
        h0: the first value of the Hessian; a larger one begins with less noise. None: by fan-in
            (`initial_hessian`), so that deep and wide networks tolerate the noise at any N; the
            paper's 0.5 at N = 50,000 is as little noise in its narrow ResNet, but too much for a
            wide VGG16.
        beta1: momentum.
        beta2: memory of the Hessian; None: 1 - 2/num_steps, which is the paper's 0.99999 at its
            200,000 steps. With 0.99999 a run of 1,000 steps would end with the h it began with.
        num_samples: S, the number of draws that predict.

    Raises:
        UserError: an option is out of range.
    """
    beta2 = 1 - 2 / max(num_steps, 4) if beta2 is None else beta2
    weight_decay = prior_precision / num_train
    constants = Constants(num_train, weight_decay, beta1, beta2, h0)
    rate_at = learning_rate if callable(learning_rate) else lambda step: learning_rate

    def init(key, images, start=None):
        mean = model.initial(key, images, start)
        hessian = jax.tree.map(jnp.full_like, mean, initial_hessian(mean, num_train, h0))
        return IvonState(mean, hessian, jax.tree.map(jnp.zeros_like, mean), jnp.int32(0))

    def step(key, state, batch):
        dropout_key, noise_key = jax.random.split(key)
        noise = optax.tree.random_like(noise_key, state.mean)

        def loss(params):
            outputs = model.apply(params, batch.images, dropout_key)
            metrics = model.likelihood.metrics(outputs, batch.labels)
            return metrics["nll"], metrics

        weights = draw_weights(noise, state, num_train, weight_decay)
        gradient, metrics = jax.grad(loss, has_aux=True)(weights)
        metrics["loss"] = metrics["nll"]
        rate = rate_at(state.step)
        return update(state, gradient, noise, rate, constants), metrics

    def draw(key, state, index):
        noise = optax.tree.random_like(jax.random.fold_in(key, index), state.mean)
        return draw_weights(noise, state, num_train, weight_decay)

    def summary(state):
        ratios = jax.tree.map(
            lambda mean, hessian: (sigma(hessian, num_train, weight_decay) / jnp.abs(mean)).ravel(),
            state.mean,
            state.hessian,
        )
        return {"sigma_over_mu": jnp.median(jnp.concatenate(jax.tree.leaves(ratios)))}

    return Method(init, step, draw, model.predictive, summary=summary, num_draws=num_samples)
