"""A recipe, a network and data in; a trained method out.

A method that starts from the trained point network has that trained first, in the folder beside its
own. Each training has a folder of its own: one that is finished is found there and not done again,
one that was stopped goes on.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from research.data.dataset import Dataset
from research.method import Method, Model
from research.runtime.errors import UserError
from research.runtime.mesh import place, replicate
from research.training import recipe as recipes
from research.training.loop import Settings, initialise, train
from research.training.optimizer import learning_rate_schedule, make_optimizer
from research.training.recipe import Given, Recipe


class Options(NamedTuple):
    """How `point` is trained; a method's `Training` is relative to it."""

    epochs: float = 15.0
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3  # the peak
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    patience: int = 10  # epochs without a better validation NLL before stopping
    flip: bool = False
    crop: int = 0  # pixels
    save_seconds: float = 30.0


class Fitted(NamedTuple):
    """A method that is ready to predict; calibrators of the recipe are yet to be fitted."""

    recipe: Recipe
    method: Method
    state: Any
    steps: int  # taken
    num_steps: int  # planned; fewer were taken where it stopped early
    best_step: int
    seconds: float  # of training at its median speed, and of `finish`; the point network's not


def folder_name(recipe: Recipe) -> str:
    """A recipe as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "_", str(recipe)).strip("_")


def _seconds(directory: Path, steps: int) -> float:
    """Over all sessions of a training; its speed is the median of those logged."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return steps / float(np.median([json.loads(line)["steps_per_second"] for line in lines]))


class _Trained(NamedTuple):
    """A method before `finish`."""

    method: Method
    state: Any
    steps: int
    num_steps: int
    best_step: int
    seconds: float


def _train(recipe, model, dataset, options, key, directory, mesh, params, watch) -> _Trained:
    told = recipes.training(recipe)
    steps_per_epoch = max(1, dataset.num_train // options.batch_size)
    num_steps = round(options.epochs * told.epochs * steps_per_epoch)
    warmup_steps = min(round(options.warmup_epochs * steps_per_epoch), num_steps // 2)
    schedule = learning_rate_schedule(
        told.schedule or options.schedule,
        options.learning_rate * told.learning_rate,
        num_steps,
        warmup_steps,
    )
    decay = options.weight_decay if told.weight_decay is None else told.weight_decay
    tx = make_optimizer(options.optimizer, schedule, decay, options.momentum)
    given = Given(model, tx, schedule, dataset.num_train, num_steps, steps_per_epoch)
    method = recipes.build(recipe, given)
    if recipe == Recipe("point") and params is not None:
        return _Trained(method, replicate(method.init(key, None, params), mesh), 0, 0, 0, 0.0)
    start, before = None, 0
    if (first := recipes.starting_point(recipe)) is not None:
        trained = _train(first, model, dataset, options, key, directory, mesh, params, watch)
        start, before = trained.state.params, trained.num_steps
    if num_steps == 0:
        image = dataset.train.images[np.arange(1)]
        state = place(initialise(method, key, image, start), method.members, mesh)
        return _Trained(method, state, 0, 0, 0, 0.0)
    folder = directory / folder_name(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        num_steps=num_steps,
        batch_size=options.batch_size,
        eval_every=steps_per_epoch,
        patience=options.patience,
        flip=options.flip,
        crop=options.crop,
        save_seconds=options.save_seconds,
        keep=told.keep,
    )
    try:
        later = watch and (lambda step, nll: watch(before + step, nll))
        trained = train(method, dataset, settings, key, folder, mesh, schedule, start, later)
    except UserError as error:
        raise UserError(f"{recipe}: {error}") from error
    seconds = _seconds(folder, trained.steps)
    return _Trained(method, trained.state, trained.steps, num_steps, trained.best_step, seconds)


def fit(
    recipe: Recipe,
    model: Model,
    dataset: Dataset,
    options: Options,
    key: jax.Array,
    directory: Path,
    mesh: Mesh,
    params: Any = None,
    watch: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Trains a method, or finds it trained, and finishes it.

    Args:
        recipe: what to fit.
        model: the network.
        dataset: what it is trained on.
        options: how `point` is trained.
        key: decides initial weights, order, noise, and what `finish` draws.
        directory: holds one folder for each training.
        mesh: devices that share a batch.
        params: of the trained point network, where there is one already; it is not trained then.
        watch: is told the step and the validation NLL at each look, the steps of what is trained
            first counted in full; it may raise, to stop there.

    Raises:
        UserError: bad options, or training diverged.
        SystemExit: told to stop; the same call goes on there.
    """
    train_key, finish_key = jax.random.split(key)
    within = recipes.uncalibrated(recipe)
    trained = _train(within, model, dataset, options, train_key, directory, mesh, params, watch)
    started = time.perf_counter()
    finished = jax.block_until_ready(trained.method.finish(finish_key, trained.state, dataset))
    seconds = trained.seconds + time.perf_counter() - started
    return Fitted(recipe, *trained._replace(state=finished, seconds=seconds))
