"""A head of one hidden layer, trained on features inside one compiled program.

All trainings of heads of one size share the program: what differs between them is an array, such as
the weight of each training example (0 removes it).
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.data.epochs import scan_epochs, shuffled_batches
from research.method import Model
from research.models import chain
from research.models.layers import Dense, Dropout

LEAST_EPOCH = 1_024  # examples
CURVES = ("loss", "valid_nll", "learning_rate")


class HeadOptions(NamedTuple):
    """How a head is trained; a change of a number that is a float compiles nothing anew."""

    hidden: int = 128
    epochs: int = 40
    learning_rate: float = 3e-3  # of Adam; falls to 0 by half a cosine
    weight_decay: float = 1e-2  # decoupled
    dropout: float = 0.5  # of the hidden units
    batch_size: int = 64
    constant_rate: bool = False  # the learning rate does not fall


class Examples(NamedTuple):
    """Examples to train on or to choose the epoch by. The fields are aligned."""

    inputs: np.ndarray  # [N, D]
    labels: np.ndarray  # [N] int
    weights: np.ndarray | None = None  # [N]; None: all the same


class _Weighted(NamedTuple):
    """The same on the device, always with weights."""

    inputs: jax.Array
    labels: jax.Array
    weights: jax.Array


class Head(NamedTuple):
    """A trained head's predictions, and its loss curve."""

    best: dict[str, np.ndarray]  # by split: log_probs [N, K] at the lowest validation NLL
    last: dict[str, np.ndarray]  # likewise after the last epoch
    history: tuple[dict, ...]  # rows with epoch, loss, valid_nll, learning_rate
    params: tuple[dict, dict]  # at the lowest validation NLL, and after the last epoch


class _Program(NamedTuple):
    """All that a change of compiles anew."""

    model: Model
    epochs: int
    batch_size: int
    constant_rate: bool


@cache
def head_model(hidden: int, dropout: float, classes: int) -> Model:
    """One hidden layer of rectified linear units with dropout, and the logits."""
    layers = Dense("fc1", hidden, "relu"), Dropout(dropout), Dense("predictions", classes)
    return chain.as_model(chain.Chain(layers))


def _nll(log_probs, labels, weights):
    picked = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    return -jnp.sum(weights * picked) / jnp.sum(weights)


@partial(jax.jit, static_argnames="program")
def _train(key, train: _Weighted, valid: _Weighted, inputs, rate, decay, *, program: _Program):
    x, labels, weights = train
    batch_size = program.batch_size
    steps = len(x) // batch_size
    cosine = optax.cosine_decay_schedule(1.0, program.epochs * steps)
    tx = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(decay))
    params = program.model.init(jax.random.fold_in(key, 0), x[:1])

    def predict(params, x, key=None):
        return jax.nn.log_softmax(program.model.apply(params, x, key))

    def rate_at(count):
        return rate if program.constant_rate else rate * cosine(count)

    def loss(params, key, index):
        log_probs = predict(params, x[index], key)
        picked = jnp.take_along_axis(log_probs, labels[index][:, None], axis=-1)[:, 0]
        return -jnp.mean(weights[index] * picked)

    def step(key, state, index):
        params, opt_state, count = state
        value, gradient = jax.value_and_grad(loss)(params, key, index)
        updates, opt_state = tx.update(gradient, opt_state, params)
        now = rate_at(count)
        params = jax.tree.map(lambda p, u: p - now * u, params, updates)
        return (params, opt_state, count + 1), value

    def plan(number):
        order_key, noise_key = jax.random.split(jax.random.fold_in(key, number + 1))
        return jax.random.split(noise_key, steps), shuffled_batches(order_key, len(x), batch_size)

    def evaluate(state):
        params, _, count = state
        nll = _nll(predict(params, valid.inputs), valid.labels, valid.weights)
        return {"valid_nll": nll, "learning_rate": rate_at(count - 1)}

    begin = params, tx.init(params), jnp.int32(0)
    scanned = scan_epochs(step, begin, plan, program.epochs, evaluate, "valid_nll")
    params = scanned.best[0], scanned.last[0]
    log_probs = [{name: predict(p, of_split) for name, of_split in inputs.items()} for p in params]
    return log_probs, scanned.history, params


def _on_device(inputs, labels, weights) -> _Weighted:
    return _Weighted(
        jnp.asarray(inputs, jnp.float32),
        jnp.asarray(labels, jnp.int32),
        jnp.asarray(weights, jnp.float32),
    )


def train_head(
    inputs: dict[str, np.ndarray],
    train: Examples,
    valid: Examples,
    classes: int,
    seed: int,
    options: HeadOptions,
) -> Head:
    """Trains one head.

    Args:
        inputs: by split: inputs [N, D] whose classes are predicted in the end.
        train: examples to learn from; their weights are rescaled to a mean of 1.
        valid: examples to choose the epoch by.
        classes: K.
        seed: of the initial weights and the order.
        options: how it is trained.
    """
    n = len(train.labels)
    weights = np.ones(n) if train.weights is None else np.asarray(train.weights, np.float64)
    weights = weights * n / max(weights.sum(), 1e-12)
    # A short split is repeated up to `LEAST_EPOCH` examples: in an epoch of a few steps the network
    # would hardly change, and splits of one length share one compiled program.
    index = np.arange(max(n, LEAST_EPOCH)) % n
    valid_weights = np.ones(len(valid.labels)) if valid.weights is None else valid.weights
    log_probs, curves, params = _train(
        jax.random.key(seed),
        _on_device(train.inputs[index], train.labels[index], weights[index]),
        _on_device(valid.inputs, valid.labels, valid_weights),
        {name: jnp.asarray(of_split, jnp.float32) for name, of_split in inputs.items()},
        jnp.float32(options.learning_rate),
        jnp.float32(options.weight_decay),
        program=_Program(
            head_model(options.hidden, options.dropout, classes),
            options.epochs,
            options.batch_size,
            options.constant_rate,
        ),
    )
    best, last = ({n: np.asarray(x, np.float64) for n, x in of.items()} for of in log_probs)
    curves = {name: np.asarray(curves[name], np.float64) for name in CURVES}
    history = tuple(
        {"epoch": number + 1} | {name: curve[number] for name, curve in curves.items()}
        for number in range(options.epochs)
    )
    return Head(best, last, history, params)
