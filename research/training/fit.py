"""A recipe, a network and data in; a trained method out.

A method that starts from the trained point network has that trained first, in the folder beside its
own. Each training has a folder of its own: one that is finished is found there and not done again,
one that was stopped goes on.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax

from research.data.dataset import Dataset
from research.method import Method, Model
from research.runtime.errors import UserError
from research.runtime.options import check_ranges
from research.runtime.progress import read_history
from research.runtime.run import Run
from research.training.loop import TrainingPlan, initialise, train
from research.training.optimizer import learning_rate_schedule, make_optimizer
from research.training.recipe import POINT, Context, Recipe, build, uncalibrated


@dataclass(frozen=True)
class TrainingOptions:
    """How the network is trained; a method's own training is relative to it."""

    epochs: float = 15.0
    """of point; other methods take their multiples of it"""
    batch_size: int = 32
    """images a step"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (decoupled weight decay), or sgd with momentum"""
    learning_rate: float = 1e-3
    """the peak"""
    momentum: float = 0.9
    """of sgd"""
    weight_decay: float = 1e-4
    """on kernels, not on biases"""
    schedule: Literal["cosine", "step", "linear", "constant"] = "cosine"
    """of the learning rate, after the warm-up"""
    warmup_epochs: float = 1.0
    """the learning rate rises linearly from 0"""
    patience: int = 10
    """epochs without a better validation NLL before stopping"""
    save_seconds: float = 30.0
    """at least so long between checkpoints"""
    flip: bool = False
    """augmentation: random horizontal flips"""
    crop: int = 0
    """augmentation: pad by so many pixels and crop at random"""

    def check(self) -> None:
        """Refuses numbers out of range; one that is left open, None, is none.

        Raises:
            UserError: one is.
        """
        check_ranges(
            self,
            above_0=("epochs", "batch_size", "learning_rate", "patience"),
            from_0=("momentum", "weight_decay", "warmup_epochs", "save_seconds", "crop"),
        )

    def replace(self, **changes) -> "TrainingOptions":
        """The options with some of them changed."""
        return dataclasses.replace(self, **changes)


class Problem(NamedTuple):
    """What methods are fitted to."""

    model: Model
    dataset: Dataset  # what `model` takes: images, or features
    params: Any = None  # weights of the trained point network, where there are any already


class Fitted(NamedTuple):
    """A method that is ready to predict; calibrators of the recipe are yet to be fitted."""

    recipe: Recipe
    method: Method
    state: Any
    steps: int  # steps taken
    num_steps: int  # steps planned; fewer were taken where training stopped early
    best_step: int
    seconds: float  # training at its median speed, and `finish`; without what it starts from


def folder_name(recipe: Recipe) -> str:
    """A recipe as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "_", str(recipe)).strip("_")


def context(
    recipe: Recipe,
    model: Model,
    num_train: int,
    options: TrainingOptions,
    optimizer: Callable[[optax.Schedule, float], optax.GradientTransformation] | None = None,
) -> Context:
    """What the factory of a recipe's method is given.

    Args:
        recipe: the method, and how it is trained relative to `point`.
        model: the network.
        num_train: N, the number of training examples.
        options: how `point` is trained.
        optimizer: (learning rate, weight decay) -> the optimiser; None: the one that the options
            name.
    """
    training = recipe.training
    steps_per_epoch = max(1, num_train // options.batch_size)
    num_steps = round(options.epochs * training.epochs * steps_per_epoch)
    schedule = learning_rate_schedule(
        training.schedule or options.schedule,
        options.learning_rate * training.learning_rate,
        num_steps,
        min(round(options.warmup_epochs * steps_per_epoch), num_steps // 2),
    )
    decay = options.weight_decay if training.weight_decay is None else training.weight_decay
    if optimizer is None:
        tx = make_optimizer(options.optimizer, schedule, decay, options.momentum)
    else:
        tx = optimizer(schedule, decay)
    return Context(model, num_train, num_steps, steps_per_epoch, tx, schedule)


def fit(
    key: jax.Array,
    recipe: Recipe,
    problem: Problem,
    options: TrainingOptions,
    run: Run,
    watch: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Trains a method, or finds it trained, and finishes it.

    Args:
        key: decides initial weights, order, noise, and what `finish` draws.
        recipe: what to fit.
        problem: the network and the data; where it has the weights of the trained point network,
            that is not trained again.
        options: how `point` is trained.
        run: its folder holds one folder for each training.
        watch: called with the step and the validation NLL after every evaluation, the steps of what
            is trained first counted in full; what it raises ends the training.

    Raises:
        UserError: bad options, or training diverged.
        Interrupted: a signal asked for it; the same call goes on there.
    """

    def later(steps):  # `watch`, called with the steps that were planned before
        def watch_later(step, nll):
            return watch and watch(steps + step, nll)

        return watch and watch_later

    train_key, finish_key = jax.random.split(key)
    start, steps_before = None, 0
    trainings = [uncalibrated(recipe)]
    while trainings[0].start is not None:
        trainings.insert(0, trainings[0].start)
    for first in trainings[:-1]:
        fitted = _train(train_key, first, problem, options, run, start, later(steps_before))
        start, steps_before = fitted.state.params, steps_before + fitted.num_steps
    fitted = _train(train_key, trainings[-1], problem, options, run, start, later(steps_before))
    started = time.perf_counter()
    state = jax.block_until_ready(fitted.method.finish(finish_key, fitted.state, problem.dataset))
    seconds = fitted.seconds + time.perf_counter() - started
    return fitted._replace(recipe=recipe, state=state, seconds=seconds)


def _train(
    key: jax.Array,
    recipe: Recipe,
    problem: Problem,
    options: TrainingOptions,
    run: Run,
    start: Any,
    watch: Callable[[int, float], None] | None,
) -> Fitted:
    """A method trained from the parameters `start`, before its `finish`."""
    model, dataset, params = problem
    given = context(recipe, model, dataset.num_train, options)
    method = build(recipe, given)
    is_given = recipe == POINT and params is not None
    if is_given or given.num_steps == 0:
        start = params if is_given else start
        state = initialise(method, key, dataset.train.example, run.mesh, start)
        return Fitted(recipe, method, state, 0, 0, 0, 0.0)
    run = run.folder(folder_name(recipe))
    run.directory.mkdir(parents=True, exist_ok=True)
    plan = TrainingPlan(
        num_steps=given.num_steps,
        batch_size=options.batch_size,
        schedule=given.learning_rate,
        evaluate_every=given.steps_per_epoch,
        patience=options.patience,
        flip=options.flip,
        crop=options.crop,
        save_seconds=options.save_seconds,
        keep=recipe.training.keep,
    )
    try:
        trained = train(key, method, dataset, plan, run, start, watch)
    except UserError as error:
        raise error.within(str(recipe)) from error
    speeds = [row["steps_per_second"] for row in read_history(run.directory)]
    seconds = trained.steps / float(np.median(speeds))  # of all sessions, at the median speed
    return Fitted(
        recipe, method, trained.state, trained.steps, plan.num_steps, trained.best_step, seconds
    )
