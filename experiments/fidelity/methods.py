"""How `experiments.fidelity` trains a method on a small net: the whole training in one scan.

A dense net of a few hundred weights takes a step in less time than Python needs to dispatch it, so
the resumable loop (`research/training/loop.py`) is not used: there are no checkpoints and no early
stopping. The last state is kept, because the posterior is that of the training data alone.

Every method has the prior N(0, 1/precision) on every weight, biases included: by its own options
where it has a prior of its own, else as the weight decay precision/N of the mean loss.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.calibrators.fit import calibrate_in_turn
from research.data.dataset import Dataset
from research.data.epochs import method_step, numbered_keys, scan_batches, shuffled_batches
from research.method import Batch, Method, Model, predict
from research.models import chain
from research.models.layers import Dense, Dropout
from research.training import recipe as recipes
from research.training.fit import TrainingOptions, context
from research.training.recipe import Recipe

BATCH_SIZE = 25
LEARNING_RATE = 0.01  # of Adam, for `point`
DROPOUT = 0.05


class Length(NamedTuple):
    """How long to train, and how many networks to draw."""

    epochs: int  # of `point`
    num_samples: int  # where a recipe does not give it


class Fitted(NamedTuple):
    """A method that is ready to predict, once for each seed."""

    method: Method
    states: tuple[Any, ...]
    seconds: float  # of one training and of what it starts from; without compilation
    calibrate: tuple[Callable[[np.ndarray], np.ndarray], ...]  # log_probs [S, N, K] to calibrated


def network(dropout: float = 0.0) -> Model:
    """2-16-16-2, tanh: smooth, so that NUTS follows it well."""
    layers = []
    for name in ("first", "second"):
        layers += [Dense(name, 16, "tanh"), Dropout(dropout)]
    return chain.as_model(chain.Chain((*layers, Dense("predictions", 2))))


def network_of(recipe: Recipe) -> Model:
    """The network of a method; only that of Monte Carlo dropout has dropout."""
    return network(DROPOUT if recipe.base.name == "mc_dropout" else 0.0)


def _optimizer(recipe: Recipe, schedule: optax.Schedule, weight_decay: float):
    # The factors of a BatchEnsemble are not decayed: they have a prior around 1. They are flat, as
    # its biases are, and so these are not decayed either.
    kernels_only = recipe.base.name == "batch_ensemble"

    def decayed(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1 or not kernels_only, params)

    # Decay before Adam, not decoupled: the minimum is then that of the loss with its prior.
    return optax.chain(optax.add_decayed_weights(weight_decay, mask=decayed), optax.adam(schedule))


def _run(method: Method, dataset: Dataset, num_steps: int, key: jax.Array, start: Any):
    """The state after training; every member has an order of its own."""
    images, labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)
    init_key, order_key, step_key = jax.random.split(key, 3)
    order_keys = jax.random.split(order_key, method.members)

    steps_per_epoch = len(labels) // BATCH_SIZE

    def batches_of(epoch):  # [T, M * B]
        keys = jax.vmap(jax.random.fold_in, (0, None))(order_keys, epoch)
        return shuffled_batches(keys, len(labels), BATCH_SIZE)

    epochs = jnp.arange(-(-num_steps // steps_per_epoch))
    batches = jax.vmap(batches_of)(epochs).reshape(-1, method.members * BATCH_SIZE)
    step = method_step(method, Batch(images, labels))
    state = method.init(init_key, images[:1], start)
    keys = numbered_keys(step_key, 0, num_steps)
    return scan_batches(step, state, keys, batches[:num_steps])[0]


def fit(
    recipe: Recipe,
    model: Model,
    dataset: Dataset,
    precision: float,
    epochs: int,
    keys: tuple[jax.Array, ...],
) -> Fitted:
    """Trains a method, after the network that it starts from.

    Args:
        recipe: the method.
        model: the network.
        dataset: arrays of at least one batch.
        precision: of the prior on every weight.
        epochs: for which `point` is trained.
        keys: one for each seed; they decide everything random.

    Raises:
        UserError: the method does not allow the value of an option.
    """
    first = recipe.start
    starts, seconds = (None,) * len(keys), 0.0
    if first is not None:
        before = fit(first, model, dataset, precision, epochs, keys)
        starts, seconds = tuple(state.params for state in before.states), before.seconds
    names, recipe = recipes.calibrators_of(recipe), recipes.uncalibrated(recipe)
    options = TrainingOptions(
        epochs=epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=precision / dataset.num_train,
        warmup_epochs=0.0,
    )
    given = context(recipe, model, dataset.num_train, options, partial(_optimizer, recipe))
    prior = {
        "prior_precision": precision,
        "prior": "gaussian",
        "prior_sigma": precision**-0.5,
        "prior_relative_to": "none",
    }
    method = recipes.build(recipes.with_options(recipe, **prior), given)
    run = (
        jax.jit(partial(_run, method, dataset, given.num_steps)).lower(keys[0], starts[0]).compile()
    )
    begun = time.perf_counter()
    trained = jax.block_until_ready([run(*each) for each in zip(keys, starts, strict=True)])
    seconds += (time.perf_counter() - begun) / len(keys)
    finish_keys = [jax.random.fold_in(key, 1) for key in keys]
    states = [method.finish(*each, dataset) for each in zip(finish_keys, trained, strict=True)]
    calibrate, valid = [], dataset.valid
    for each in zip(keys, states, strict=True):
        log_probs = np.asarray(predict(method, *each, jnp.asarray(valid.images)))
        calibrate.append(calibrate_in_turn(names, log_probs, valid.labels))
    return Fitted(method, tuple(states), seconds, tuple(calibrate))


def predictives(fitted: Fitted, points: np.ndarray, keys: tuple[jax.Array, ...]) -> np.ndarray:
    """The probabilities averaged over all draws, in float64.

    Args:
        fitted: the method.
        points: where to predict, [G, ...].
        keys: one for each seed; they decide the draws.

    Returns:
        Probabilities [seeds, G, K].
    """
    run = jax.jit(lambda key, state: predict(fitted.method, key, state, jnp.asarray(points)))
    log_probs = [run(*each) for each in zip(keys, fitted.states, strict=True)]  # [S, G, K] each
    both = zip(fitted.calibrate, log_probs, strict=True)
    draws = [calibrate(np.asarray(x, np.float64)) for calibrate, x in both]
    return np.stack([np.mean(np.exp(x), axis=0) for x in draws])
