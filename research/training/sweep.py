"""Many trainings as one compiled program: what differs between them is an array with an axis R.

A grid of hyper-parameters and seeds trains one network R times. The runs share the program, the
data on the device and every dispatch (an epoch each). On accelerators they are a `vmap`, shared out
over the devices, which fills a device that one small network cannot; on one CPU they follow one
another inside the program.

A method is built from its hyper-parameters inside the trace, so any number among its options that
only enters arithmetic (a learning rate, a prior's width) can be an array. What decides the shape of
the work (units, noisy passes a step) cannot, and takes a sweep of its own.

As in `train.py` the epoch is the whole position, and a resumed sweep equals an uninterrupted one.
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
from research.runtime.errors import UserError
from research.runtime.mesh import replicate, shard
from research.runtime.signals import stop_signals

Hyper = dict[str, jax.Array]  # scalars by name inside the trace; [R] outside
Build = Callable[[Hyper], Method]
Look = Callable[[Method, jax.Array, Any, Batch], dict[str, jax.Array]]


class Data(NamedTuple):
    """Three splits, each small enough to lie on the device whole."""

    train: Batch
    valid: Batch
    test: Batch


class Settings(NamedTuple):
    """How long, and which state to keep."""

    epochs: int
    batch_size: int
    look_every: int  # epochs between looks at the validation and the test split
    keep_by: str  # the number of the validation split that is lowest at the state to keep
    save_seconds: float = 60.0


class Kept(NamedTuple):
    """What looking at the runs has left; a checkpoint holds this and the newest states."""

    best: Any  # states of the runs, leaves [R, ...]
    best_value: jax.Array  # [R] float32
    best_epoch: jax.Array  # [R] int32
    history: dict[str, jax.Array]  # by split and name: [looks, R] float32
    seconds: jax.Array  # float32, of all processes that trained


class Swept(NamedTuple):
    """The result of a sweep, on the host; the axis R has the order of the hyper-parameters."""

    last: Any
    best: Any  # lowest `keep_by`
    best_epoch: np.ndarray  # [R]
    epochs: np.ndarray  # [looks], epochs trained at each look
    history: dict[str, np.ndarray]  # "valid_error" and so on: [looks, R]
    seconds: float  # of all runs together, by all processes that trained them


def _over_runs(mesh: Mesh) -> Callable:
    """Lifts a function of one run's arrays to all runs."""
    if jax.default_backend() == "cpu" and mesh.size == 1:
        return lambda function: lambda *runs: jax.lax.map(lambda run: function(*run), runs)
    return jax.vmap


def _compile(build: Build, look: Look, settings: Settings, num_train: int, mesh: Mesh):
    """The three programs: start, one epoch, one look."""
    over_runs = _over_runs(mesh)
    steps = num_train // settings.batch_size

    def start(hypers, keys, image):
        return over_runs(lambda hyper, key: build(hyper).init(jax.random.fold_in(key, 0), image))(
            hypers, keys
        )

    def epoch(states, hypers, keys, number, train):
        def one_run(state, hyper, key):
            method = build(hyper)
            noise_key, order_key = jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)
            batches = shuffled_batches(
                jax.random.fold_in(order_key, number), num_train, settings.batch_size
            )
            step_keys = numbered_keys(noise_key, number * steps, steps)
            state, losses = scan_batches(method_step(method, train), state, step_keys, batches)
            return state, jnp.mean(losses)

        return over_runs(one_run)(states, hypers, keys)

    def looks(states, hypers, keys, valid, test):
        def one_run(state, hyper, key):
            method, key = build(hyper), jax.random.fold_in(key, 3)
            seen = {
                "valid": look(method, key, state, valid),
                "test": look(method, key, state, test),
            }
            return {f"{s}_{name}": x for s, told in seen.items() for name, x in told.items()}

        return over_runs(one_run)(states, hypers, keys)

    return jax.jit(start), jax.jit(epoch, donate_argnums=0), jax.jit(looks)


def _after_a_look(kept: Kept, states, numbers, row: int, epoch: int, keep_by: str) -> Kept:
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


def sweep(
    build: Build,
    hypers: dict[str, np.ndarray],
    seeds: np.ndarray,
    look: Look,
    data: Data,
    settings: Settings,
    directory: Path,
    mesh: Mesh,
    told: str,
) -> Swept:
    """Trains R runs; goes on from the newest checkpoint in `directory`, if there is one.

    Args:
        build: a run's hyper-parameters -> its method.
        hypers: arrays [R] by name.
        seeds: [R]; decide initial weights, order and noise.
        look: (method, key, state, split) -> numbers by name, such as "error".
        data: on the host or on a device.
        settings: how long.
        directory: for the checkpoints.
        mesh: devices that share the runs.
        told: what the progress bar calls the sweep.

    Raises:
        UserError: the batch is larger than the training split; every run diverged.
        SystemExit: 128 + the signal's number, after saving, when told to stop.
    """
    num_train, num_runs = len(data.train.labels), len(seeds)
    if settings.batch_size > num_train:
        raise UserError(f"--batch_size {settings.batch_size}: there are only {num_train} images")
    # Every device gets the same number of runs: the last one is repeated where that is uneven.
    padded = np.minimum(np.arange(-(-num_runs // mesh.size) * mesh.size), num_runs - 1)
    hypers = shard({n: np.asarray(v, np.float32)[padded] for n, v in hypers.items()}, mesh)
    keys = shard(jax.vmap(jax.random.key)(np.asarray(seeds)[padded]), mesh)
    train, valid, test = replicate(tuple(data), mesh)
    start, epoch, looks = _compile(build, look, settings, num_train, mesh)

    each_epoch = np.arange(1, settings.epochs + 1)
    looked = each_epoch[(each_epoch % settings.look_every == 0) | (each_epoch == settings.epochs)]
    states = start(hypers, keys, train.images[:1])
    names = jax.eval_shape(looks, states, hypers, keys, valid, test)
    history = replicate(
        {name: jnp.full((len(looked), len(padded)), jnp.nan, jnp.float32) for name in names}, mesh
    )
    values = shard(
        (jnp.full(len(padded), jnp.inf, jnp.float32), jnp.zeros(len(padded), jnp.int32)), mesh
    )
    seconds = replicate(jnp.float32(0), mesh)
    kept = Kept(jax.tree.map(jnp.copy, states), *values, history, seconds)

    keep = jax.jit(_after_a_look, static_argnames="keep_by", donate_argnums=0)
    with (
        contextlib.closing(checkpoint.open_checkpoints(directory / "checkpoints")) as checkpoints,
        stop_signals() as signals,
    ):
        done = 0
        if (restored := checkpoint.restore(checkpoints, (states, kept))) is not None:
            done, (states, kept) = restored
        last_saved = time.monotonic()
        began = last_saved - float(kept.seconds)
        bar = tqdm(total=settings.epochs, initial=done, desc=told, unit="epoch", disable=None)
        for number in range(done, settings.epochs):
            states, losses = epoch(states, hypers, keys, np.int32(number), train)
            losses = np.asarray(losses)  # waits: a signal is not to find many epochs under way
            loss = np.min(losses, where=np.isfinite(losses), initial=np.inf)
            done = number + 1
            if done in looked:
                numbers = looks(states, hypers, keys, valid, test)
                row = int(np.searchsorted(looked, done))
                kept = keep(kept, states, numbers, row, done, keep_by=settings.keep_by)
                if not np.isfinite(losses).any():
                    raise UserError(f"{told}: every run diverged; give smaller learning rates")
                bar.set_postfix(loss=f"{loss:.3f}", best=f"{kept.best_value.min():.4g}")
            bar.update()
            due = time.monotonic() - last_saved >= settings.save_seconds
            if signals or due or done == settings.epochs:
                last_saved = time.monotonic()
                kept = kept._replace(seconds=replicate(jnp.float32(last_saved - began), mesh))
                checkpoint.save(checkpoints, done, (states, kept))
                if not sys.stderr.isatty():
                    best = float(kept.best_value.min())
                    left = (settings.epochs - done) * (last_saved - began) / done
                    print(
                        f"{told}: epoch {done}/{settings.epochs}  loss {loss:.3f}  "
                        f"best {settings.keep_by} {best:.4g}  {left:.0f} s left",
                        file=sys.stderr,
                    )
            if signals and done < settings.epochs:
                print(f"\nsaved after epoch {done}: the same command goes on", file=sys.stderr)
                sys.exit(128 + signals[0])
        bar.close()

    def on_host(tree):
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:num_runs], tree)

    return Swept(
        on_host(states),
        on_host(kept.best),
        np.asarray(kept.best_epoch)[:num_runs],
        looked,
        {name: np.asarray(rows)[:, :num_runs] for name, rows in kept.history.items()},
        float(kept.seconds),
    )
