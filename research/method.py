"""The whole vocabulary of Candor.

A `Model` is what a method knows of a network; a `Method` is how a distribution over networks is
initialised, trained, finished and sampled. A `Likelihood` is what a network's outputs mean:
categorical by default; the Gaussian makes the same methods fit a curve or an expected reward
(Blundell et al. 2015, sections 5.2 and 5.3), and gives tests a posterior in closed form.

Dimension letters, in every shape comment: S draws, M members, N examples, B batch, K classes,
H height, W width, C channels. Key first, state second, data last. Randomness is not state: a step's
key is `fold_in(root_key, step)`, so a resumed run equals an uninterrupted one to the bit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray  # on the devices, or on the host


class Likelihood(NamedTuple):
    """Two pure functions of a network's outputs."""

    metrics: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]  # (outputs, labels) -> scalars
    predictive: Callable[[jax.Array], jax.Array]  # outputs -> what a method's `apply` gives


def batch_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """The metrics of a classifier's batch.

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
        noise: the standard deviation, in the unit of the labels.
    """

    def metrics(outputs, labels):
        error = jnp.mean(jnp.square(outputs[:, 0] - labels))
        nll = error / (2 * noise**2) + math.log(noise) + 0.5 * math.log(2 * math.pi)
        return {"nll": nll, "error": error}

    return Likelihood(metrics, lambda outputs: outputs)


class Batch(NamedTuple):
    """The input of a training step."""

    images: Any  # jax.Array or np.ndarray: [B, H, W, C] uint8, or cached features [B, ...] float32
    labels: Any  # [B] int32


class Model(NamedTuple):
    """What a method knows of Flax: two pure functions. Preprocessing is part of the model.

    `layers` names what has weights, in order; parameters are a dict by these names. `head` is the
    part of them that comes after the last convolution.
    """

    init: Callable[..., Any]  # (key, images) -> params
    apply: Callable[..., jax.Array]  # (params, images, key=None) -> logits [B, K]; None: no dropout
    layers: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    likelihood: Likelihood = CATEGORICAL  # what the outputs mean

    def initial(self, key: jax.Array, images: Array, start: Any = None) -> Any:
        """The parameters that training starts from: `start`, or new ones where that is None."""
        return self.init(key, images) if start is None else start

    def predictive(self, params: Any, images: jax.Array) -> jax.Array:
        """What one network predicts: log-probabilities [B, K], unless the likelihood is another.

        It is the `apply` of a method whose draws are parameters.
        """
        return self.likelihood.predictive(self.apply(params, images))


class Training(NamedTuple):
    """How a method is trained by default, relative to how `point` is trained.

    Every file of a method that is no wrapper has one, named `TRAINING`.
    """

    start: str = "scratch"  # "scratch", or "point": the weights of the trained point network
    epochs: float = 1.0  # times those of `point`; 0: nothing to train
    learning_rate: float = 1.0  # times that of `point`
    schedule: str | None = None  # of the learning rate; None: that of `point`
    keep: str = "best"  # "best": the state of lowest validation NLL; "last": the final one
    weight_decay: float | None = None  # None: that of `point`


def no_finish(key: jax.Array, state: Any, dataset: Any) -> Any:
    """The `finish` of a method that needs none."""
    del key, dataset
    return state


def no_summary(state: Any) -> dict[str, jax.Array]:
    """The `summary` of a method that has nothing to report."""
    del state
    return {}


class Method(NamedTuple):
    """Pure functions over one state pytree: a distribution over networks.

    To predict is to `draw` networks and to `apply` each of them. `draw` takes the key of the whole
    prediction and the number of the draw; the same key gives the same `num_draws` networks for
    every batch and every split, so that draws can be compared across images.

    `init` starts from the parameters `start`, or afresh where that is None. `finish` runs once
    after training (Laplace, SNGP) and may read the data set's splits. `summary` is logged once an
    epoch.
    """

    init: Callable[..., Any]  # (key, images, start=None) -> state
    step: Callable[..., tuple[Any, dict]]  # (key, state, batch) -> (state, metrics)
    draw: Callable[..., Any]  # (key, state, index) -> network
    apply: Callable[..., jax.Array]  # (network, images) -> log_probs [B, K], normalised
    finish: Callable[..., Any] = no_finish  # (key, state, dataset) -> state
    summary: Callable[..., dict] = no_summary  # (state) -> scalars by name
    num_draws: int = 1  # S
    vectorised: bool = False  # draws share a base: all S of a batch are computed at once
    members: int = 1  # M: a step takes M batches in one; the state's leaves have a leading axis M


def predict(method: Method, key: jax.Array, state: Any, images: jax.Array) -> jax.Array:
    """All draws of a method for one batch.

    Args:
        method: the method that predicts.
        key: decides the S networks.
        state: the method's state.
        images: [B, ...].

    Returns:
        log_probs [S, B, K], each normalised.
    """

    def one(index):
        return method.apply(method.draw(key, state, index), images)

    indices = jnp.arange(method.num_draws)
    return jax.vmap(one)(indices) if method.vectorised else jax.lax.map(one, indices)
