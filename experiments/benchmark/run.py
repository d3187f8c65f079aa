"""One method on one seed: it is trained, and all its predictions are kept in one file.

The file is written whole or not at all, so a method that has one is never trained again.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.benchmark.costs import PREDICT_BATCH, measure_costs
from research.calibrators.fit import calibrate, calibrate_in_turn
from research.data.corruptions import CORRUPTIONS, NUM_LEVELS, corrupt_all
from research.data.dataset import Dataset, Images
from research.method import Method, Model
from research.metrics import format
from research.metrics.scores import predictive
from research.posteriors.predictive import predictor
from research.runtime.errors import UserError
from research.runtime.files import write_json, write_whole
from research.runtime.mesh import round_up_to_devices
from research.runtime.run import Run
from research.training import recipe as recipes
from research.training.fit import (
    Fitted,
    Problem,
    TrainingOptions,
    context,
    fit,
    folder_name,
)
from research.training.recipe import POINT, Recipe, calibrators_of


class Bench(NamedTuple):
    """What all methods of a seed share."""

    seed: int
    dataset: Dataset
    head: str  # of the network
    ood: Images | None  # images of another kind
    model: Model
    options: TrainingOptions
    test_index: np.ndarray  # the images of the test split that are evaluated
    corrupted_index: np.ndarray  # those that are corrupted
    directory: Path  # of the seed
    mesh: Mesh


def costs_file(out: Path, recipe: Recipe) -> Path:
    """Where the run's folder keeps the costs of a method, which are the same for all seeds."""
    return out / "costs" / f"{folder_name(recipe)}.json"


def predictions_file(directory: Path, recipe: Recipe) -> Path:
    """Where a seed's folder keeps the predictions of a method."""
    return directory / folder_name(recipe) / "predictions.npz"


def _plain_and_tempered(log_probs: np.ndarray, temper: Callable) -> np.ndarray:
    """Draws [S, N, K] as two predictive distributions [2, N, K] float32: at T = 1 and at T."""
    both = [predictive(draws).log_probs for draws in (log_probs, temper(log_probs))]
    return np.stack(both).astype(np.float32)


def _predict(fitted: Fitted, bench: Bench, key: jax.Array) -> dict[str, np.ndarray]:
    """The predictions of the test split, of images of another kind, and of corrupted ones.

    Returns:
        `test` [2, N, K], `outside` [2, M, K], `worse` [2, C, L, n, K]: log-probabilities before and
        after temperature scaling; their labels; the `temperature`.
    """
    valid, test = bench.dataset.valid, bench.dataset.test
    outside = () if bench.ood is None else bench.ood
    largest = max(len(valid.labels), len(bench.test_index), len(outside))
    batch_size = round_up_to_devices(min(PREDICT_BATCH, largest), bench.mesh)
    draw_key, corruption_key = jax.random.split(key)
    predict = predictor(fitted.method, draw_key, batch_size, bench.mesh)
    plain = predict(fitted.state, valid.images)
    calibrated = calibrate_in_turn(calibrators_of(fitted.recipe), plain, valid.labels)
    temperature = calibrate("temperature", calibrated(plain), valid.labels)

    def both_of(images):
        return _plain_and_tempered(calibrated(predict(fitted.state, images)), temperature.apply)

    arrays = {
        "temperature": np.float64(temperature.fitted["temperature"]),
        "test": both_of(test.images[bench.test_index]),
        "labels": test.labels[bench.test_index],
        "worse_labels": test.labels[bench.corrupted_index],
    }
    if bench.ood is not None:
        arrays["outside"] = both_of(bench.ood)
    originals = test.images[bench.corrupted_index]
    cells = [
        [
            both_of(corrupt_all(jax.random.fold_in(corruption_key, number), originals, name, level))
            for level in range(1, NUM_LEVELS + 1)
        ]
        for number, name in enumerate(CORRUPTIONS)
    ]
    arrays["worse"] = np.moveaxis(np.array(cells), 2, 0)
    return arrays


def _fit(recipe: Recipe, bench: Bench, params: Any = None) -> Fitted:
    problem = Problem(bench.model, bench.dataset, params)
    run = Run(bench.directory, bench.mesh, bench.seed)
    return fit(jax.random.key(bench.seed), recipe, problem, bench.options, run)


def _seconds(recipe: Recipe, fitted: Fitted, bench: Bench, point: Fitted) -> float:
    """The seconds of training, and of training the network that the method starts from."""
    start = recipe.start
    if start is None:
        return fitted.seconds
    return fitted.seconds + (point if start == POINT else _fit(start, bench)).seconds


def _run(recipe: Recipe, bench: Bench, point: Fitted) -> None:
    """Fits a method, measures its costs, and writes its predictions.

    Raises:
        UserError: training diverged, or the method refuses its options.
    """
    fitted = point if recipe == POINT else _fit(recipe, bench, point.state.params)
    costs = costs_file(bench.directory.parent, recipe)
    if not costs.exists():
        image, size = bench.dataset.test.images.shape[1:], bench.options.batch_size
        measured = fitted.method, fitted.state, bench.model, image, size, fitted.num_steps > 0
        write_json(costs, measure_costs(*measured))
    arrays = _predict(fitted, bench, jax.random.fold_in(jax.random.key(bench.seed), 1))
    arrays["seconds"] = np.asarray(_seconds(recipe, fitted, bench, point), np.float64)
    arrays["point_seconds"] = np.asarray(point.seconds, np.float64)
    path = predictions_file(bench.directory, recipe)
    write_whole(path, lambda part: np.savez(part, allow_pickle=False, **arrays))


def build(recipe: Recipe, bench: Bench) -> Method:
    """The method, to see before anything is trained that its options are right.

    Raises:
        UserError: they are not.
    """
    given = context(recipe, bench.model, bench.dataset.num_train, bench.options)
    return recipes.build(recipe, given)


def _expected_work(recipe: Recipe, bench: Bench) -> float:
    """About how many forward passes of an image training and asking take; for the time left."""
    method, dataset = build(recipe, bench), bench.dataset
    trained = bench.options.epochs * recipe.training.epochs * dataset.num_train
    evaluated = len(bench.test_index) + len(CORRUPTIONS) * NUM_LEVELS * len(bench.corrupted_index)
    return 3 * method.members * trained + (1 if method.vectorised else method.num_draws) * evaluated


def run_missing(
    todo: list[tuple[int, Recipe]], first: Bench, open_bench: Callable[[int], Bench]
) -> list[str]:
    """Fits and evaluates, seed by seed, each recipe that has no predictions yet.

    Args:
        todo: (seed, recipe), in the order of the seeds.
        first: the bench of the first of these seeds.
        open_bench: makes the bench of another seed.

    Returns:
        The errors, as sentences: a method that diverges does not stop the others.

    Raises:
        UserError: the point network, which all others are compared with, diverged.
    """
    work = {recipe: _expected_work(recipe, first) for _, recipe in todo}
    total, done, failures = sum(work[recipe] for _, recipe in todo), 0.0, []
    bench, point, started = first, None, time.monotonic()
    for number, (seed, recipe) in enumerate(todo, start=1):
        if bench.seed != seed:
            bench, point = open_bench(seed), None
        title = f"[{number}/{len(todo)}] seed {seed}, {recipe}"
        print(f"{title}: begins", file=sys.stderr)
        point = point or _fit(POINT, bench)
        try:
            _run(recipe, bench, point)
        except UserError as error:
            failures.append(error.within(f"{recipe} at seed {seed}").problem)
            print(f"{title}: failed: {error.as_flags()}", file=sys.stderr)
        done += work[recipe]
        taken = time.monotonic() - started
        left = format.duration(taken * (total - done) / done)
        print(f"{title}: ends after {format.duration(taken)}; about {left} left", file=sys.stderr)
    return failures
