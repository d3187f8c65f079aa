"""How `experiments.fidelity` trains a method on a small net: the whole training in one scan.

A dense net of a few hundred weights takes a step in less time than Python needs to ask for it, so
this is not research/train.py: no checkpoints, no early stopping. The last state is kept, for a
validation split has no place in a posterior.

Every method has the prior N(0, 1/precision): where it has an option `prior_precision`, by that;
else as the weight decay precision/N of the mean loss, on every weight, biases included.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import recipe
from research.data.dataset import Dataset
from research.method import Batch, Method, Model
from research.models import chain
from research.optimizer import learning_rate_schedule
from research.predict import predict_split
from research.recipe import Given, Recipe

BATCH_SIZE = 25
LEARNING_RATE = 0.01  # of Adam, for `point`
DROPOUT = 0.05


class Length(NamedTuple):
    """How long to train, and how many networks to draw."""

    epochs: int  # of `point`
    num_samples: int  # where a method is not told otherwise


class Fitted(NamedTuple):
    """A method that is ready to predict."""

    method: Method
    state: Any
    seconds: float  # of training, and of that of what it starts from; without compilation


def network(dropout: float = 0.0) -> Model:
    """2-16-16-2, tanh: smooth, so that NUTS follows it well."""
    layers = []
    for name in ("first", "second"):
        layers += [chain.Dense(name, 16, "tanh"), chain.Dropout(dropout)]
    return chain.as_model(chain.Chain((*layers, chain.Dense("predictions", 2))))


def _optimizer(told: Recipe, schedule: optax.Schedule, precision: float, num_train: int):
    if "prior_precision" in recipe.options_of(recipe.base(told).name):
        return optax.adam(schedule)
    # Before Adam, not decoupled: the minimum is then that of the loss with its prior.
    return optax.chain(optax.add_decayed_weights(precision / num_train), optax.adam(schedule))


def _run(method: Method, dataset: Dataset, num_steps: int, key: jax.Array, start: Any):
    """The state after training: a batch of its own for every member, a permutation every epoch."""
    images, labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)
    init_key, order_key, step_key = jax.random.split(key, 3)
    order_keys = jax.random.split(order_key, method.members)

    def one(state, number):
        epoch, position = jnp.divmod(number, len(labels) // BATCH_SIZE)

        def batch_of(key):
            order = jax.random.permutation(jax.random.fold_in(key, epoch), len(labels))
            return jax.lax.dynamic_slice_in_dim(order, position * BATCH_SIZE, BATCH_SIZE)

        indices = jax.vmap(batch_of)(order_keys).ravel()  # [M * B]
        batch = Batch(images[indices], labels[indices])
        return method.step(jax.random.fold_in(step_key, number), state, batch)[0], None

    return jax.lax.scan(one, method.init(init_key, images[:1], start), jnp.arange(num_steps))[0]


def fit(
    told: Recipe, model: Model, dataset: Dataset, precision: float, epochs: int, key: jax.Array
) -> Fitted:
    """Trains a method, and first what it starts from.

    Args:
        told: the method.
        model: the network.
        dataset: small, of arrays.
        precision: of the prior.
        epochs: of `point`.
        key: decides everything random.

    Raises:
        UserError: an option's value is refused by the method.
    """
    first_key, train_key, finish_key = jax.random.split(key, 3)
    first = recipe.starting_point(told)
    start, seconds = None, 0.0
    if first is not None:
        before = fit(first, model, dataset, precision, epochs, first_key)
        start, seconds = before.state.params, before.seconds
    training = recipe.training(told)
    steps_per_epoch = dataset.num_train // BATCH_SIZE
    num_steps = round(epochs * training.epochs * steps_per_epoch)
    schedule = learning_rate_schedule(
        training.schedule or "cosine", LEARNING_RATE * training.learning_rate, num_steps
    )
    tx = _optimizer(told, schedule, precision, dataset.num_train)
    given = Given(model, tx, schedule, dataset.num_train, num_steps, steps_per_epoch)
    method = recipe.build(recipe.with_options(told, prior_precision=precision), given)
    run = jax.jit(lambda key, start: _run(method, dataset, num_steps, key, start))
    compiled = run.lower(train_key, start).compile()
    begun = time.perf_counter()
    state = jax.block_until_ready(compiled(train_key, start))
    seconds += time.perf_counter() - begun
    return Fitted(method, method.finish(finish_key, state, dataset), seconds)


def predictive(fitted: Fitted, points: np.ndarray, key: jax.Array) -> np.ndarray:
    """The mean probabilities [G, K] of all draws at the points [G, ...]."""
    log_probs = predict_split(fitted.method, key, fitted.state, points, len(points))
    return np.mean(np.exp(log_probs.astype(np.float64)), axis=0)
