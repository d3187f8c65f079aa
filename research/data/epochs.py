"""Training over minibatches inside one compiled program, for networks too small for a Python loop.

A caller says what a step does and which keys and batches an epoch has; the scans are here. To train
a method on arrays for some epochs and keep the state of lowest validation NLL:

    def plan(number):  # an epoch's keys [T] and batches [T, B], from its number
        order_key, noise_key = jax.random.split(jax.random.fold_in(key, number))
        batches = shuffled_batches(order_key, len(data.labels), batch_size)
        return jax.random.split(noise_key, len(batches)), batches

    scanned = scan_epochs(method_step(method, data), state, plan, epochs, evaluate, "valid_nll")

A caller that returns to the host after every epoch, or that stops in the middle of one, calls
`scan_batches` with the keys and batches itself. Every function can be traced; none reads a clock, a
file or a device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.method import Batch, Method

# (key, state, indices [B]) -> (state, the loss of the batch)
Step = Callable[[jax.Array, Any, jax.Array], tuple[Any, jax.Array]]


class Scanned(NamedTuple):
    """The result of `scan_epochs`."""

    last: Any  # the state after the last epoch
    best: Any  # the state after the epoch of lowest `keep_by`; the first state where all are NaN
    history: dict[str, jax.Array]  # [epochs] each: the mean "loss", and what `evaluate` gave


def shuffled_batches(keys: jax.Array, num_examples: int, batch_size: int) -> jax.Array:
    """An epoch's order, cut into full batches; the examples left over are not used in it.

    Args:
        keys: one key, or one for each of M networks that are trained at once, shape [M].
        num_examples: N.
        batch_size: B, at most N.

    Returns:
        Indices below N, shape [N // B, M * B]: each network has a permutation of its own.
    """
    steps = num_examples // batch_size

    def order(key):
        used = jax.random.permutation(key, num_examples)[: steps * batch_size]
        return used.reshape(steps, batch_size)

    return jax.vmap(order, out_axes=1)(keys.reshape(-1)).reshape(steps, -1)


def numbered_keys(key: jax.Array, first: int | jax.Array, count: int) -> jax.Array:
    """The keys [count] of steps numbered from `first` on: `fold_in(key, number)` each."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(first + jnp.arange(count))


def method_step(method: Method, data: Batch) -> Step:
    """The step that trains a method on the examples of `data` with the indices given."""

    def step(key, state, indices):
        batch = Batch(data.images[indices], data.labels[indices])
        state, metrics = method.step(key, state, batch)
        return state, metrics["loss"]

    return step


def scan_batches(
    step: Step, state: Any, keys: jax.Array, batches: jax.Array
) -> tuple[Any, jax.Array]:
    """Takes a step for every batch.

    Args:
        step: (key, state, indices) -> (state, loss).
        state: where to start.
        keys: [T], one for each step.
        batches: [T, B] indices.

    Returns:
        The last state, and the losses [T].
    """
    return jax.lax.scan(
        lambda state, given: step(given[0], state, given[1]), state, (keys, batches)
    )


def scan_epochs(
    step: Step,
    state: Any,
    plan: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    epochs: int,
    evaluate: Callable[[Any], dict[str, jax.Array]],
    keep_by: str,
) -> Scanned:
    """Trains for some epochs, evaluates after each, and keeps the best state.

    Args:
        step: (key, state, indices) -> (state, loss).
        state: where to start.
        plan: an epoch's number, from 0 -> its keys [T] and batches [T, B].
        epochs: how many.
        evaluate: state -> scalars by name.
        keep_by: the name of the scalar that is lowest at the best state.
    """

    def epoch(carry, number):
        state, best, lowest = carry
        state, losses = scan_batches(step, state, *plan(number))
        numbers = evaluate(state)
        value = numbers[keep_by]
        best = jax.tree.map(lambda new, old: jnp.where(value < lowest, new, old), state, best)
        return (state, best, jnp.fmin(value, lowest)), {"loss": jnp.mean(losses), **numbers}

    begin = state, state, jnp.float32(jnp.inf)
    (last, best, _), history = jax.lax.scan(epoch, begin, jnp.arange(epochs))
    return Scanned(last, best, history)
