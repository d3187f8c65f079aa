"""How a method is trained on a few columns of numbers: every seed at once, in one scan.

A network of a few thousand weights takes a step in less time than Python needs to dispatch it, so
the resumable loop (`research/training/loop.py`) is not used, and there are no checkpoints.
Compiling takes longer than training, so the learning rate and L2 are arrays, and trainings that
differ in nothing else share a program.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.calibrators.fit import calibrate_in_turn
from research.data.dataset import Dataset, Split
from research.data.epochs import method_step, scan_epochs, shuffled_batches
from research.method import Batch, Method, Model, predict
from research.models import chain
from research.models.layers import BinaryLogit, Dense, Dropout
from research.training import recipe as recipes
from research.training.fit import TrainingOptions, context
from research.training.recipe import Recipe

CLASSES = ("0", "1")
Sets = dict[str, Batch]  # "train", "valid" and the test sets: [N, D] float32 and [N] int32


class Network(NamedTuple):
    """Dense layers with ReLUs, then one logit."""

    units: tuple[int, ...] = (128, 64)
    dropout: float = 0.0  # after every hidden layer


class Training(NamedTuple):
    """How `point` is trained, by Adam at a constant rate; a recipe may change that."""

    epochs: int
    learning_rate: float = 1e-3
    l2: float = 0.0  # adds l2/2 times the sum of squares of the kernels to the mean loss
    batch_size: int = 32
    keep: str = "last"  # the weights after the last epoch, or of the "best" validation NLL


class Fitted(NamedTuple):
    """A method that is ready to predict, for R seeds."""

    method: Method
    states: Any  # leaves [R, ...]
    history: dict[str, np.ndarray]  # loss and valid_nll, [R, epochs]
    calibrate: tuple[Callable, ...] = ()  # of each seed: log_probs [S, N, K] to calibrated ones


def as_model(network: Network) -> Model:
    """The network as a `Model`, for any number of columns."""
    layers = []
    for number, units in enumerate(network.units, start=1):
        layers += [Dense(f"hidden{number}", units, "relu"), Dropout(network.dropout)]
    last = Dense("predictions", 1), BinaryLogit()
    return chain.as_model(chain.Chain((*layers, *last)))


def _optimizer(schedule: optax.Schedule, l2: float) -> optax.GradientTransformation:
    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    # The decay comes before Adam and is not decoupled: the penalty is a part of the loss.
    return optax.chain(optax.add_decayed_weights(l2, mask=kernels), optax.adam(schedule))


def _method(recipe: Recipe, network: Network, training: Training, num_train: int) -> Method:
    options = TrainingOptions(
        epochs=_epochs(recipe, training) / (recipe.training.epochs or 1),
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.l2,
        schedule="constant",
        warmup_epochs=0.0,
    )
    return recipes.build(recipe, context(recipe, as_model(network), num_train, options, _optimizer))


def _epochs(recipe: Recipe, training: Training) -> int:
    """The epochs that a method is trained for, whole ones."""
    return round(training.epochs * recipe.training.epochs)


def _run(recipe, network, training, key, train, valid, start):
    """(state, history) of one seed."""
    init_key, order_key, steps_key, valid_key = jax.random.split(key, 4)
    num_train = len(train.labels)
    method = _method(recipe, network, training, num_train)

    def plan(number):
        keys = jax.random.split(jax.random.fold_in(order_key, number), method.members)
        batches = shuffled_batches(keys, num_train, training.batch_size)
        return jax.random.split(jax.random.fold_in(steps_key, number), len(batches)), batches

    def evaluate(state):
        log_probs = method.apply(method.draw(valid_key, state, 0), valid.images)
        picked = jnp.take_along_axis(log_probs, valid.labels[:, None], axis=-1)
        return {"valid_nll": -jnp.mean(picked)}

    state = method.init(init_key, train.images[:1], start)
    epochs = _epochs(recipe, training)
    scanned = scan_epochs(method_step(method, train), state, plan, epochs, evaluate, "valid_nll")
    return {"last": scanned.last, "best": scanned.best}, scanned.history


@lru_cache
def _trainer(recipe: Recipe, network: Network, epochs: int, batch_size: int):
    def one(key, rate, l2, train, valid, start):
        training = Training(epochs, rate, l2, batch_size)
        return _run(recipe, network, training, key, train, valid, start)

    return jax.jit(jax.vmap(one, in_axes=(0, None, None, 0, 0, 0)))


def _finish(method: Method, key: jax.Array, state: Any, train: Batch, valid: Batch) -> Any:
    """Calls `finish` of the method for one seed."""
    splits = [
        Split(np.asarray(rows.images), np.asarray(rows.labels), ids.astype(str))
        for rows in (train, valid)
        for ids in (np.arange(len(rows.labels)),)
    ]
    return method.finish(key, state, Dataset("", CLASSES, splits[0], splits[1], splits[1]))


def fit(
    recipe: Recipe, network: Network, training: Training, sets: Sets, keys: jax.Array
) -> Fitted:
    """Trains a method, after the network that it starts from.

    Args:
        recipe: the method.
        network: what the method is a distribution over.
        training: how `point` is trained.
        sets: rows by name, with leaves [R, N, ...].
        keys: [R], one for each seed; they decide everything random.

    Raises:
        UserError: the method does not allow the value of an option.
    """
    train, valid = sets["train"], sets["valid"]
    calibrators, recipe = recipes.calibrators_of(recipe), recipes.uncalibrated(recipe)
    method = _method(recipe, network, training, train.labels.shape[1])
    first, start = recipe.start, None
    if first is not None:
        start = fit(first, network, training, sets, keys).states.params
    run = _trainer(recipe, network, training.epochs, training.batch_size)
    rate, l2 = jnp.float32(training.learning_rate), jnp.float32(training.l2)
    kept, history = run(keys, rate, l2, train, valid, start)
    states = kept[training.keep]
    finished = [
        _finish(method, *jax.tree.map(lambda leaf, i=i: leaf[i], (keys, states, train, valid)))
        for i in range(len(keys))
    ]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *finished)
    fitted = Fitted(method, states, jax.tree.map(np.asarray, history))
    if not calibrators:
        return fitted
    held_out = zip(predictives(fitted, keys, valid.images), valid.labels, strict=True)
    maps = (calibrate_in_turn(calibrators, *each) for each in held_out)
    return fitted._replace(calibrate=tuple(maps))


def predictives(fitted: Fitted, keys: jax.Array, rows: jax.Array) -> np.ndarray:
    """All draws for every row.

    Args:
        fitted: the method.
        keys: [R], one for each seed; they decide the draws.
        rows: columns [R, N, D].

    Returns:
        log_probs [R, S, N, 2].
    """
    run = jax.jit(jax.vmap(partial(predict, fitted.method)))
    log_probs = np.asarray(run(keys, fitted.states, rows))
    if not fitted.calibrate:
        return log_probs
    both = zip(fitted.calibrate, log_probs, strict=True)
    return np.stack([calibrate(draws) for calibrate, draws in both])
