"""The only training loop.

The step number is the whole position: keys are `fold_in(key, step)`, and the order of an epoch is a
permutation from `fold_in(order_key, epoch)`. A run that was killed and started again therefore
equals one that was never stopped, to the bit.
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from research.data.augment import augment
from research.data.batches import training_batches
from research.data.dataset import Dataset
from research.method import Array, Batch, Method
from research.metrics.scores import disagreement, scores
from research.posteriors.predictive import predictor
from research.runtime import checkpoint
from research.runtime.errors import Diverged, Interrupted, UserError
from research.runtime.files import write_whole
from research.runtime.mesh import check_batch_size, place, replicate, shard
from research.runtime.progress import Progress
from research.runtime.run import Run
from research.runtime.signals import stop_signals

VALID_DRAWS = 8  # the most draws with which the validation split is evaluated during training


class TrainingPlan(NamedTuple):
    """How long to train, how, and which state to keep."""

    num_steps: int
    batch_size: int
    schedule: optax.Schedule  # the learning rate, for the log and for a message on divergence
    evaluate_every: int  # steps between evaluations on the validation split
    patience: int  # evaluations without a better validation NLL before training stops
    flip: bool = False  # augmentation: horizontal flips
    crop: int = 0  # augmentation: pad by this many pixels and crop
    save_seconds: float = 30.0  # the least time between two planned checkpoints
    keep: str = "best"  # the state of lowest validation NLL, or the "last"; that never stops early


class Position(NamedTuple):
    """Everything that a checkpoint holds."""

    state: Any  # the method's state after `step` steps
    best: Any  # the method's state that is to be kept so far
    best_step: jax.Array  # int32
    best_nll: jax.Array  # float32, nats
    stalled: jax.Array  # int32, evaluations since the best one


class TrainingResult(NamedTuple):
    """What `train` returns."""

    state: Any  # the state to keep
    steps: int  # steps taken, in all processes
    best_step: int
    best_nll: float  # validation NLL in nats


def train(
    key: jax.Array,
    method: Method,
    dataset: Dataset,
    plan: TrainingPlan,
    run: Run,
    start: Any = None,
    watch: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Trains until the last step, or until the validation NLL stops falling.

    Goes on from the newest checkpoint in the run's folder, if there is one. Writes checkpoints,
    `metrics.jsonl` and TensorBoard events to it.

    Args:
        key: decides initial weights, order and noise.
        method: the method to train.
        dataset: its `train` split is trained on; its `valid` split decides when to stop.
        plan: how long and how.
        run: the folder of this training, and the devices that share a batch.
        start: parameters to start from; None: fresh ones.
        watch: called with the step and the validation NLL after every evaluation; what it raises
            ends the training.

    Raises:
        Diverged: the loss became NaN or infinite; the last good checkpoint stays.
        UserError: the batch is larger than the training split or does not fit the devices; the
            folder holds a run on other images.
        Interrupted: a signal asked for it; everything is saved, and the same call goes on there.
    """
    _check(dataset, plan.batch_size, run)
    init_key, order_key, step_key, predict_key = jax.random.split(key, 4)
    take_step = _compile_step(step_key, method, dataset, plan, run.mesh)
    predict = predictor(method, predict_key, plan.batch_size, run.mesh, VALID_DRAWS)
    summarise = jax.jit(method.summary)
    state = initialise(method, init_key, dataset.train.example, run.mesh, start)
    position = _best_at(0, state, math.inf, run.mesh)

    with contextlib.ExitStack() as stack:
        checkpoints = checkpoint.open_checkpoints(run.directory / "checkpoints")
        stack.enter_context(contextlib.closing(checkpoints))
        signals = stack.enter_context(stop_signals())
        step, position = checkpoint.restore(checkpoints, position) or (0, position)
        is_finished = step == plan.num_steps or position.stalled >= plan.patience
        left = 0 if is_finished else plan.num_steps - step
        batches = training_batches(
            dataset.train, order_key, plan.batch_size, step, left, method.members
        )
        progress = Progress(
            run.directory, plan.num_steps, step, dataset.num_train // plan.batch_size
        )
        stack.enter_context(contextlib.closing(progress))
        state, pending, last_saved = position.state, [], time.monotonic()
        for images, indices in batches:
            state, metrics = take_step(state, images, indices, step)
            step += 1
            # Checking the loss of the step before keeps the device busy while the host waits.
            if pending and not math.isfinite(pending[-1]["loss"]):
                raise _diverged(step - 1, plan.schedule, checkpoints)
            pending.append(metrics)
            progress.advance()

            is_stopped = bool(signals) or checkpoints.should_save(step)
            is_finished, is_due = step == plan.num_steps, False
            if is_finished or step % plan.evaluate_every == 0:
                log_probs = predict(state, dataset.valid.images)
                if not math.isfinite(metrics["loss"]) or np.isnan(log_probs).any():
                    raise _diverged(step, plan.schedule, checkpoints)
                valid = _averages(log_probs, dataset.valid.labels)
                if plan.keep == "last" or valid["nll"] < position.best_nll:
                    position = _best_at(step, state, valid["nll"], run.mesh)
                else:
                    position = position._replace(stalled=position.stalled + 1)
                summary = jax.tree.map(float, summarise(state)) | _spread(log_probs)
                progress.log(step, pending, valid, float(np.asarray(plan.schedule(step))), summary)
                pending = []
                if watch is not None:
                    watch(step, valid["nll"])
                is_finished = is_finished or position.stalled >= plan.patience
                is_due = time.monotonic() - last_saved >= plan.save_seconds
            if is_finished or is_stopped or is_due:
                checkpoint.save(checkpoints, step, position._replace(state=state))
                last_saved = time.monotonic()
            if is_finished:
                break
            if is_stopped:
                number = (signals or [signal.SIGTERM])[0]  # a scheduler's notice has no number
                raise Interrupted(number, f"saved at step {step}: the same command goes on there")
    return TrainingResult(position.best, step, int(position.best_step), float(position.best_nll))


def initialise(method: Method, key: jax.Array, images: Array, mesh: Mesh, start: Any = None):
    """The state before the first step, on the devices.

    Args:
        method: the method whose state it is.
        key: decides what is drawn.
        images: [1, ...], for the shapes.
        mesh: the devices; the members of an ensemble are shared out over them.
        start: parameters to start from; None: fresh ones.
    """
    # Drawing numbers compiles slowly on a CPU: 10 s for VGG16, 2 s without XLA's optimisations.
    is_cpu = jax.default_backend() == "cpu"
    options = {"xla_backend_optimization_level": 0} if is_cpu else None
    init = jax.jit(method.init, compiler_options=options)
    return place(init(key, images, start), method.members, mesh)


def _check(dataset: Dataset, batch_size: int, run: Run) -> None:
    """Refuses a batch that cannot be, and other images than those that training began with.

    Splits follow the images: with others, what was trained on may be in the test split now. Where
    training starts from somebody's weights, the fingerprint tells those apart as well.
    """
    check_batch_size(batch_size, run.mesh)
    if batch_size > dataset.num_train:
        problem = f"there are only {dataset.num_train} training images"
        raise UserError("batch_size", problem, "give a smaller `batch_size`", value=batch_size)
    path = run.directory / "trained_on.txt"
    if path.exists() and path.read_text() != dataset.fingerprint:
        raise UserError(
            "out",
            "the images or the weights to start from have changed since training began there",
            "choose another folder, or remove that one",
            value=run.directory,
        )
    write_whole(path, lambda part: part.write_text(dataset.fingerprint))


def _compile_step(
    key: jax.Array, method: Method, dataset: Dataset, plan: TrainingPlan, mesh: Mesh
) -> Callable:
    """(state, images or None, indices, step number) -> (state, metrics), compiled once.

    A training split in memory is put on the devices whole, and batches are gathered there.
    """
    noise_key, augment_key = jax.random.split(key)

    def step(state, images, labels, number):
        if plan.flip or plan.crop:
            this_key = jax.random.fold_in(augment_key, number)
            images = augment(this_key, images, plan.flip, plan.crop)
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


def _best_at(step: int, state, nll: float, mesh: Mesh) -> Position:
    """The position after a step whose state is the one to keep."""
    counters = replicate((jnp.int32(step), jnp.float32(nll), jnp.int32(0)), mesh)
    # A copy: the next step donates the buffers of `state`.
    return Position(state, jax.tree.map(jnp.copy, state), *counters)


def _averages(log_probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`nll`, `accuracy` and `confidence` of a split."""
    found = scores(log_probs, labels)
    return {
        "nll": float(np.mean(found.nll)),
        "accuracy": float(np.mean(found.correct)),
        "confidence": float(np.mean(found.confidence)),
    }


def _spread(log_probs: np.ndarray) -> dict[str, float]:
    """How far draws [S, N, K] disagree; nothing for a single one."""
    return {"disagreement": disagreement(log_probs)} if len(log_probs) > 1 else {}


def _diverged(step: int, schedule: optax.Schedule, checkpoints) -> Diverged:
    good = checkpoints.latest
    kept = f"; the last good state, of step {good.step}, is kept" if good else ""
    return Diverged(
        None,
        f"training diverged: the loss is not finite at step {step}, learning rate "
        f"{float(np.asarray(schedule(step - 1))):.3g}",
        f"give a smaller `learning_rate`{kept}",
    )
