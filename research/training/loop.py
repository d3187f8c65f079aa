"""The only training loop.

The step number is the whole position: keys are `fold_in(key, step)`, the order of an epoch is a
permutation from `fold_in(data_key, epoch)`. A run that was killed and started again therefore
equals one that was never stopped, to the bit.
"""

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from research.data.augment import augment
from research.data.batches import training_batches
from research.data.dataset import Dataset
from research.method import Batch, Method
from research.metrics.scores import disagreement, scores
from research.posteriors.predictive import predictor
from research.runtime import checkpoint
from research.runtime.errors import UserError
from research.runtime.files import write_whole
from research.runtime.mesh import check_batch_size, place, replicate, shard
from research.runtime.progress import Progress
from research.runtime.signals import stop_signals

VALID_DRAWS = 8  # at most so many at each look at the validation split


class Settings(NamedTuple):
    """How long and how to train."""

    num_steps: int
    batch_size: int
    eval_every: int  # steps between looks at the validation split
    patience: int  # looks without a better validation NLL before stopping
    flip: bool = False  # augmentation: horizontal flips
    crop: int = 0  # augmentation: pad by this many pixels and crop
    save_seconds: float = 30.0  # at least this long between planned checkpoints
    keep: str = "best"  # the state of lowest validation NLL, or the "last"; that never stops early


class Position(NamedTuple):
    """Everything that a checkpoint holds."""

    state: Any  # of the method, after `step` steps
    best: Any  # of the method, the one to keep so far
    best_step: jax.Array  # int32
    best_nll: jax.Array  # float32, nats
    stalled: jax.Array  # int32, looks at the validation split since the best


class Trained(NamedTuple):
    """The result of training."""

    state: Any  # the one to keep
    steps: int  # taken in all
    best_step: int
    best_nll: float  # validation, nats
    seconds: float  # of this process; a resumed run counts only its own


def _compile_step(method, dataset: Dataset, settings: Settings, key: jax.Array, mesh: Mesh):
    """(state, images or None, indices, step number) -> (state, metrics), compiled once.

    A training split in memory is put on the devices whole, and batches are gathered there.
    """
    noise_key, augment_key = jax.random.split(key)

    def step(state, images, labels, number):
        if settings.flip or settings.crop:
            this_key = jax.random.fold_in(augment_key, number)
            images = augment(this_key, images, settings.flip, settings.crop)
        return method.step(jax.random.fold_in(noise_key, number), state, Batch(images, labels))

    def step_from_indices(state, all_images, all_labels, indices, number):
        return step(state, all_images[indices], all_labels[indices], number)

    if isinstance(dataset.train.images, np.ndarray):
        compiled = jax.jit(step_from_indices, donate_argnums=0)
        resident = replicate((dataset.train.images, dataset.train.labels), mesh)
        return lambda state, _, indices, number: compiled(
            state, *resident, shard(indices, mesh), np.int32(number)
        )
    compiled = jax.jit(step, donate_argnums=0)
    return lambda state, images, indices, number: compiled(
        state, *shard((images, dataset.train.labels[indices]), mesh), np.int32(number)
    )


def train(
    method: Method,
    dataset: Dataset,
    settings: Settings,
    key: jax.Array,
    directory: Path,
    mesh: Mesh,
    schedule: optax.Schedule,
    start: Any = None,
    watch: Callable[[int, float], None] | None = None,
) -> Trained:
    """Trains until the last step, or until the validation NLL stops falling.

    Goes on from the newest checkpoint in `directory/checkpoints`, if there is one. Writes
    `metrics.jsonl` and TensorBoard events to `directory`.

    Args:
        method: what to train.
        dataset: its `train` split is trained on, its `valid` split decides when to stop.
        settings: how long and how.
        key: decides initial weights, order and noise.
        directory: the run's folder.
        mesh: devices that share a batch.
        schedule: the learning rate, for the log and for the message when training diverges.
        start: parameters to start from; None: afresh.
        watch: is told the step and the validation NLL at each look; it may raise, to stop there.

    Raises:
        UserError: the loss became NaN or infinite (the last good checkpoint stays); the batch is
            larger than the training split or does not fit the devices; the folder holds a run on
            other images.
        SystemExit: 128 + the signal's number, after saving, when told to stop.
    """
    check_batch_size(settings.batch_size, mesh)
    if settings.batch_size > dataset.num_train:
        raise UserError(
            f"--batch_size {settings.batch_size}: there are only {dataset.num_train} training "
            "images; give a smaller --batch_size"
        )
    _check_same_data(directory, dataset)
    started = time.perf_counter()
    init_key, order_key, step_key, predict_key = jax.random.split(key, 4)
    take_step = _compile_step(method, dataset, settings, step_key, mesh)
    predict = predictor(method, predict_key, settings.batch_size, mesh, VALID_DRAWS)
    position = _start(
        initialise(method, init_key, dataset.train.images[np.arange(1)], start),
        method.members,
        mesh,
    )
    summarise = jax.jit(method.summary)

    with (
        contextlib.closing(checkpoint.open_checkpoints(directory / "checkpoints")) as checkpoints,
        stop_signals() as signals,
    ):
        step = 0
        if (restored := checkpoint.restore(checkpoints, position)) is not None:
            step, position = restored
        finished = step == settings.num_steps or position.stalled >= settings.patience
        batches = training_batches(
            dataset.train,
            order_key,
            settings.batch_size,
            step,
            0 if finished else settings.num_steps - step,
            method.members,
        )
        steps_per_epoch = dataset.num_train // settings.batch_size
        progress = Progress(directory, settings.num_steps, step, steps_per_epoch)
        with contextlib.closing(progress):
            state, pending, last_saved = position.state, [], time.monotonic()
            for images, indices in batches:
                state, metrics = take_step(state, images, indices, step)
                step += 1
                # Looking one step back keeps the device busy while the host checks.
                if pending and not math.isfinite(pending[-1]["loss"]):
                    raise _diverged(step - 1, schedule, checkpoints)
                pending.append(metrics)
                progress.advance()

                finished = step == settings.num_steps
                stop = bool(signals) or checkpoints.should_save(step)
                if finished or step % settings.eval_every == 0:
                    log_probs = predict(state, dataset.valid.images)
                    if not math.isfinite(metrics["loss"]) or np.isnan(log_probs).any():
                        raise _diverged(step, schedule, checkpoints)
                    valid = scores(log_probs, dataset.valid.labels)
                    nll = float(np.mean(valid.nll))
                    averages = {
                        "nll": nll,
                        "accuracy": float(np.mean(valid.correct)),
                        "confidence": float(np.mean(valid.confidence)),
                    }
                    position = _advance(position, state, step, nll, settings.keep, mesh)
                    spread = {"disagreement": disagreement(log_probs)} if len(log_probs) > 1 else {}
                    summary = jax.tree.map(float, summarise(state)) | spread
                    progress.log(step, pending, averages, float(schedule(step)), summary)
                    pending = []
                    if watch is not None:
                        watch(step, nll)
                    finished = finished or position.stalled >= settings.patience
                    due = time.monotonic() - last_saved >= settings.save_seconds
                    if finished or stop or due:
                        checkpoint.save(checkpoints, step, position)
                        last_saved = time.monotonic()
                elif stop:
                    checkpoint.save(checkpoints, step, position._replace(state=state))
                if finished:
                    break
                if stop:
                    told = f"saved at step {step}: the same command goes on there"
                    print(f"\n{told}", file=sys.stderr)
                    sys.exit(128 + (signals or [signal.SIGTERM])[0])
    seconds = time.perf_counter() - started
    return Trained(position.best, step, int(position.best_step), float(position.best_nll), seconds)


def _check_same_data(directory: Path, dataset: Dataset) -> None:
    """Splits follow the images: with others, what was trained on may be in the test split now.

    Where training starts from somebody's weights, the fingerprint tells those apart as well.
    """
    path = directory / "trained_on.txt"
    if path.exists() and path.read_text() != dataset.fingerprint:
        raise UserError(
            f"--out {directory}: the images or the weights to start from have changed since "
            "training began there; choose another folder, or remove that one"
        )
    write_whole(path, lambda part: part.write_text(dataset.fingerprint))


def initialise(method: Method, key: jax.Array, images: jax.Array, start: Any = None):
    """The state before the first step.

    Args:
        method: whose state.
        key: decides what is drawn.
        images: [1, ...], for the shapes.
        start: parameters to start from; None: afresh.
    """
    # Drawing numbers compiles slowly on a CPU: 10 s for VGG16, 2 s without XLA's optimisations.
    is_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if is_cpu else None
    init = jax.jit(method.init, compiler_options=options)
    return init(key, images, start)


def _start(state, members: int, mesh: Mesh) -> Position:
    state = place(state, members, mesh)
    counters = replicate((jnp.int32(0), jnp.float32(jnp.inf), jnp.int32(0)), mesh)
    return Position(state, jax.tree.map(jnp.copy, state), *counters)


def _advance(position: Position, state, step: int, nll: float, keep: str, mesh: Mesh) -> Position:
    """The position after a look at the validation split."""
    if keep == "last" or nll < position.best_nll:
        counters = replicate((jnp.int32(step), jnp.float32(nll), jnp.int32(0)), mesh)
        # A copy: the next step donates the buffers of `state`.
        return Position(state, jax.tree.map(jnp.copy, state), *counters)
    return position._replace(state=state, stalled=position.stalled + 1)


def _diverged(step: int, schedule: optax.Schedule, checkpoints) -> UserError:
    good = checkpoints.latest
    kept = f"; the last good state, of step {good.step}, is kept" if good else ""
    return UserError(
        f"training diverged: the loss is not finite at step {step}, learning rate "
        f"{float(schedule(step - 1)):.3g}; give a smaller --learning_rate{kept}"
    )
