"""Many trainings as one compiled program: what differs between them is an array with an axis R.

A grid of hyper-parameters and seeds trains one network R times. The runs share the program, the
data on the device and every dispatch (an epoch each). On accelerators they are a `vmap`, shared out
over the devices, which fills a device that one small network cannot; on one CPU they follow one
another inside the program.

A method is built from its hyper-parameters inside the trace, so any number among its options that
only enters arithmetic (a learning rate, a prior's width) can be an array. What decides the shape of
the work (units, noisy passes a step) cannot, and takes a sweep of its own.

As in `loop.py` the position is a number, here that of the epoch, and a resumed sweep equals an
uninterrupted one.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from research.data.epochs import method_step, numbered_keys, scan_batches, shuffled_batches
from research.method import Batch, Method
from research.runtime import checkpoint
from research.runtime.errors import Diverged, Interrupted, UserError
from research.runtime.mesh import replicate, round_up_to_devices, shard
from research.runtime.signals import stop_signals

Hyper = dict[str, jax.Array]  # scalars by name inside the trace; [R] outside
Build = Callable[[Hyper], Method]
Evaluate = Callable[[Method, jax.Array, Any, Batch], dict[str, jax.Array]]


class Data(NamedTuple):
    """Three splits, each small enough to lie on the device whole."""

    train: Batch
    valid: Batch
    test: Batch


class SweepPlan(NamedTuple):
    """How long to train, and which state to keep."""

    epochs: int
    batch_size: int
    evaluate_every: int  # epochs between evaluations on the validation and the test split
    keep_by: str  # the number of the validation split that is lowest at the state to keep
    save_seconds: float = 60.0  # the least time between two planned checkpoints
    title: str = "sweep"  # the name beside the progress bar

    @property
    def evaluated(self) -> np.ndarray:
        """The epochs after which the runs are evaluated, the last one among them."""
        epochs = np.arange(1, self.epochs + 1)
        return epochs[(epochs % self.evaluate_every == 0) | (epochs == self.epochs)]


class Kept(NamedTuple):
    """What the evaluations have left; a checkpoint holds this and the newest states."""

    best: Any  # states of the runs, leaves [R, ...]
    best_value: jax.Array  # [R] float32
    best_epoch: jax.Array  # [R] int32
    history: dict[str, jax.Array]  # by split and name: [evaluations, R] float32
    seconds: jax.Array  # float32, of all processes that trained


class Swept(NamedTuple):
    """The result of a sweep, on the host; the axis R has the order of the hyper-parameters."""

    last: Any
    best: Any  # the states of lowest `keep_by`
    best_epoch: np.ndarray  # [R]
    epochs: np.ndarray  # [evaluations], epochs trained at each
    history: dict[str, np.ndarray]  # "valid_error" and so on: [evaluations, R]
    seconds: float  # of all runs together, by all processes that trained them


def sweep(
    build: Build,
    hypers: dict[str, np.ndarray],
    seeds: np.ndarray,
    evaluate: Evaluate,
    data: Data,
    plan: SweepPlan,
    directory: Path,
    mesh: Mesh,
) -> Swept:
    """Trains R runs; goes on from the newest checkpoint in `directory`, if there is one.

    Args:
        build: a run's hyper-parameters -> its method.
        hypers: arrays [R] by name.
        seeds: [R]; decide initial weights, order and noise.
        evaluate: (method, key, state, split) -> numbers by name, such as "error".
        data: on the host or on a device.
        plan: how long.
        directory: the folder for the checkpoints.
        mesh: devices that share the runs.

    Raises:
        UserError: the batch is larger than the training split.
        Diverged: every run diverged.
        Interrupted: a signal asked for it; everything is saved, and the same call goes on there.
    """
    num_train, num_runs = len(data.train.labels), len(seeds)
    if plan.batch_size > num_train:
        raise UserError("batch_size", f"there are only {num_train} images", value=plan.batch_size)
    # Every device gets the same number of runs: the last one is repeated where that is uneven.
    padded = np.minimum(np.arange(round_up_to_devices(num_runs, mesh)), num_runs - 1)
    hypers = shard({n: np.asarray(v, np.float32)[padded] for n, v in hypers.items()}, mesh)
    keys = shard(jax.vmap(jax.random.key)(np.asarray(seeds)[padded]), mesh)
    train, *held_out = replicate(tuple(data), mesh)
    start, train_epoch, evaluate_all = _compile(build, evaluate, plan, num_train, mesh)
    states = start(hypers, keys, train.images[:1])
    names = jax.eval_shape(evaluate_all, states, hypers, keys, *held_out)
    kept = _nothing_kept(states, names, len(padded), plan, mesh)
    keep = jax.jit(_after_evaluation, static_argnames="keep_by", donate_argnums=0)

    with contextlib.ExitStack() as stack:
        checkpoints = checkpoint.open_checkpoints(directory / "checkpoints")
        stack.enter_context(contextlib.closing(checkpoints))
        signals = stack.enter_context(stop_signals())
        begin = 0, (states, kept)
        done, (states, kept) = checkpoint.restore(checkpoints, begin[1]) or begin
        last_saved = time.monotonic()
        began = last_saved - float(kept.seconds)
        bar = tqdm(total=plan.epochs, initial=done, desc=plan.title, unit="epoch", disable=None)
        stack.enter_context(bar)
        for number in range(done, plan.epochs):
            states, losses = train_epoch(states, hypers, keys, np.int32(number), train)
            losses = np.asarray(losses)  # waits: a signal is not to find many epochs under way
            loss = np.min(losses, where=np.isfinite(losses), initial=np.inf)
            done = number + 1
            if done in plan.evaluated:
                numbers = evaluate_all(states, hypers, keys, *held_out)
                row = int(np.searchsorted(plan.evaluated, done))
                kept = keep(kept, states, numbers, row, done, keep_by=plan.keep_by)
                if not np.isfinite(losses).any():
                    problem = f"{plan.title}: every run diverged"
                    raise Diverged(None, problem, "give smaller learning rates")
                bar.set_postfix(loss=f"{loss:.3f}", best=f"{kept.best_value.min():.4g}")
            bar.update()
            is_due = time.monotonic() - last_saved >= plan.save_seconds
            if signals or is_due or done == plan.epochs:
                last_saved = time.monotonic()
                kept = kept._replace(seconds=replicate(jnp.float32(last_saved - began), mesh))
                checkpoint.save(checkpoints, done, (states, kept))
                _report(plan, done, loss, kept)
            if signals and done < plan.epochs:
                message = f"saved after epoch {done}: the same command goes on"
                raise Interrupted(signals[0], message)

    def on_host(tree, axis=0):
        return jax.tree.map(lambda leaf: np.asarray(leaf).take(range(num_runs), axis), tree)

    return Swept(
        on_host(states),
        on_host(kept.best),
        on_host(kept.best_epoch),
        plan.evaluated,
        on_host(kept.history, axis=1),
        float(kept.seconds),
    )


def _over_runs(mesh: Mesh) -> Callable:
    """Lifts a function of one run's arrays to all runs."""
    if jax.default_backend() == "cpu" and mesh.size == 1:
        return lambda function: lambda *runs: jax.lax.map(lambda run: function(*run), runs)
    return jax.vmap


def _compile(build: Build, evaluate: Evaluate, plan: SweepPlan, num_train: int, mesh: Mesh):
    """The three programs: start, one epoch, one evaluation."""
    over_runs = _over_runs(mesh)
    steps = num_train // plan.batch_size

    def start(hypers, keys, image):
        return over_runs(lambda hyper, key: build(hyper).init(jax.random.fold_in(key, 0), image))(
            hypers, keys
        )

    def train_epoch(states, hypers, keys, number, train):
        def one_run(state, hyper, key):
            noise_key, order_key = jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)
            epoch_key = jax.random.fold_in(order_key, number)
            batches = shuffled_batches(epoch_key, num_train, plan.batch_size)
            step_keys = numbered_keys(noise_key, number * steps, steps)
            step = method_step(build(hyper), train)
            state, losses = scan_batches(step, state, step_keys, batches)
            return state, jnp.mean(losses)

        return over_runs(one_run)(states, hypers, keys)

    def evaluate_all(states, hypers, keys, valid, test):
        def one_run(state, hyper, key):
            method, key = build(hyper), jax.random.fold_in(key, 3)
            return {
                f"{split}_{name}": value
                for split, batch in {"valid": valid, "test": test}.items()
                for name, value in evaluate(method, key, state, batch).items()
            }

        return over_runs(one_run)(states, hypers, keys)

    return jax.jit(start), jax.jit(train_epoch, donate_argnums=0), jax.jit(evaluate_all)


def _nothing_kept(states, names, num_runs: int, plan: SweepPlan, mesh: Mesh) -> Kept:
    """What is kept before the first evaluation."""
    rows = jnp.full((len(plan.evaluated), num_runs), jnp.nan, jnp.float32)
    values = jnp.full(num_runs, jnp.inf, jnp.float32), jnp.zeros(num_runs, jnp.int32)
    best_value, best_epoch = shard(values, mesh)
    return Kept(
        jax.tree.map(jnp.copy, states),
        best_value,
        best_epoch,
        replicate({name: jnp.copy(rows) for name in names}, mesh),
        replicate(jnp.float32(0), mesh),
    )


def _after_evaluation(kept: Kept, states, numbers, row: int, epoch: int, keep_by: str) -> Kept:
    value = jnp.nan_to_num(numbers[f"valid_{keep_by}"], nan=jnp.inf)  # a run that diverged
    better = value < kept.best_value

    def choose(new, old):
        return jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return Kept(
        jax.tree.map(choose, states, kept.best),
        jnp.minimum(value, kept.best_value),
        jnp.where(better, epoch, kept.best_epoch),
        {name: rows.at[row].set(numbers[name]) for name, rows in kept.history.items()},
        kept.seconds,
    )


def _report(plan: SweepPlan, done: int, loss: float, kept: Kept) -> None:
    """Prints a line where there is no terminal for a bar."""
    if not sys.stderr.isatty():
        left = (plan.epochs - done) * float(kept.seconds) / done
        print(
            f"{plan.title}: epoch {done}/{plan.epochs}  loss {loss:.3f}  "
            f"best {plan.keep_by} {float(kept.best_value.min()):.4g}  {left:.0f} s left",
            file=sys.stderr,
        )
