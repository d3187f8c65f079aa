"""How a method is trained on a few columns of numbers: every seed at once, in one scan.

A network of a few thousand weights takes a step in less time than Python needs to ask for it, so
this is not research/train.py: there are no checkpoints.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research import recipe
from research.data.dataset import Dataset, Split
from research.method import Batch, Method, Model, predict
from research.models import chain
from research.optimizer import learning_rate_schedule
from research.recipe import Given, Recipe

Sets = dict[str, Batch]  # "train", "valid" and those judged: [N, D] float32 and [N] int32


class Network(NamedTuple):
    """Dense layers with ReLUs, one logit."""

    units: tuple[int, ...] = (128, 64)
    dropout: float = 0.0  # after every hidden layer


class Training(NamedTuple):
    """How `point` is trained, by Adam at a constant rate; a recipe may tell otherwise."""

    epochs: int
    learning_rate: float = 1e-3
    l2: float = 0.0  # adds l2/2 times the sum of squares of the kernels to the mean loss
    batch_size: int = 32


class Fitted(NamedTuple):
    """A method that is ready to predict, for R seeds."""

    method: Method
    states: Any  # leaves [R, ...]
    history: dict[str, np.ndarray]  # loss and valid_nll, [R, epochs]


def as_model(network: Network) -> Model:
    """The network as methods know it; its layers follow the columns they are given."""
    layers = []
    for number, units in enumerate(network.units, start=1):
        layers += [chain.Dense(f"hidden{number}", units, "relu"), chain.Dropout(network.dropout)]
    return chain.as_model(
        chain.Chain((*layers, chain.Dense("predictions", 1), chain.BinaryLogit()))
    )


def _optimizer(schedule: optax.Schedule, l2: float) -> optax.GradientTransformation:
    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    # Before Adam, not decoupled: the penalty of the texts, a part of the loss.
    return optax.chain(optax.add_decayed_weights(l2, mask=kernels), optax.adam(schedule))


def _run(method: Method, epochs: int, batch_size: int, keep: str, key, train, valid, start):
    """(state, history) of one seed."""
    init_key, order_key, step_key, look_key = jax.random.split(key, 4)
    steps = len(train.labels) // batch_size

    def step(state, each):
        step_key, index = each
        batch = Batch(train.images[index], train.labels[index])
        state, metrics = method.step(step_key, state, batch)
        return state, metrics["loss"]

    def epoch(carry, number):
        state, best, lowest = carry
        keys = jax.random.split(jax.random.fold_in(order_key, number), method.members)
        order = jax.vmap(lambda key: jax.random.permutation(key, len(train.labels)))(keys)
        order = order[:, : steps * batch_size].reshape(method.members, steps, batch_size)
        order = order.swapaxes(0, 1).reshape(steps, -1)  # [steps, M * B]
        keys = jax.random.split(jax.random.fold_in(step_key, number), steps)
        state, losses = jax.lax.scan(step, state, (keys, order))
        log_probs = method.apply(method.draw(look_key, state, 0), valid.images)
        nll = -jnp.mean(jnp.take_along_axis(log_probs, valid.labels[:, None], axis=-1))
        is_kept = (nll < lowest) | (keep == "last")
        best = jax.tree.map(lambda new, old: jnp.where(is_kept, new, old), state, best)
        history = {"loss": jnp.mean(losses), "valid_nll": nll}
        return (state, best, jnp.fmin(nll, lowest)), history

    state = method.init(init_key, train.images[:1], start)
    (_, kept, _), history = jax.lax.scan(
        epoch, (state, state, jnp.float32(jnp.inf)), jnp.arange(epochs)
    )
    return kept, history


def _finish(method: Method, key: jax.Array, state: Any, sets: Sets) -> Any:
    """`finish` of one seed."""
    splits = {
        name: Split(*map(np.asarray, sets[name]), np.arange(len(sets[name].labels)).astype(str))
        for name in ("train", "valid")
    }
    return method.finish(key, state, Dataset("", ("0", "1"), *splits.values(), splits["valid"]))


def fit(told: Recipe, model: Model, training: Training, sets: Sets, keys: jax.Array) -> Fitted:
    """Trains a method, and first what it starts from.

    Args:
        told: the method.
        model: the network.
        training: of `point`.
        sets: leaves [R, N, ...].
        keys: [R], one for each seed; they decide everything random.

    Raises:
        UserError: an option's value is refused by the method.
    """
    train, valid = sets["train"], sets["valid"]
    num_train = train.labels.shape[1]
    plan = recipe.training(told)
    epochs = round(training.epochs * plan.epochs)
    steps_per_epoch = num_train // training.batch_size
    num_steps = epochs * steps_per_epoch
    rate = training.learning_rate * plan.learning_rate
    schedule = learning_rate_schedule(plan.schedule or "constant", rate, num_steps)
    tx = _optimizer(schedule, training.l2)
    given = Given(model, tx, schedule, num_train, num_steps, steps_per_epoch)
    method = recipe.build(told, given)
    if (wrap := recipe.wrapper_of_state(told)) is not None:
        inner = fit(told.inner, model, training, sets, keys)
        states, history = jax.vmap(wrap)(inner.states), inner.history
    else:
        first = recipe.starting_point(told)
        start = first and fit(first, model, training, sets, keys).states.params
        run = partial(_run, method, epochs, training.batch_size, plan.keep)
        states, history = jax.jit(jax.vmap(run))(keys, train, valid, start)
    finished = [
        _finish(method, *jax.tree.map(lambda leaf, i=i: leaf[i], (keys, states, sets)))
        for i in range(len(keys))
    ]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *finished)
    return Fitted(method, states, jax.tree.map(np.asarray, history))


def predictives(fitted: Fitted, keys: jax.Array, rows: jax.Array) -> np.ndarray:
    """All draws for every row.

    Args:
        fitted: the method.
        keys: [R], they decide the draws.
        rows: [R, N, D].

    Returns:
        log_probs [R, S, N, 2].
    """
    return np.asarray(jax.jit(jax.vmap(partial(predict, fitted.method)))(keys, fitted.states, rows))
