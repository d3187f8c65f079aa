"""What methods predict of every split, calibrated where that was asked for, and what it costs."""

import time
from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from research.calibrators.fit import calibrate, cross_calibrate
from research.data.dataset import SPLITS, Dataset
from research.data.predictions import PredictionsFile
from research.posteriors.predictive import predictor
from research.training.fit import Fitted
from research.training.recipe import Recipe, calibrators_of, uncalibrated


class Predictions(NamedTuple):
    """One method's predictions."""

    log_probs: dict[str, np.ndarray]  # by split: [S, N, K]
    milliseconds_per_image: float | None  # None: the predictions come from a file
    calibrators: tuple[str, ...] = ()  # what was applied to the method's own, in this order
    fitted: dict | None = None  # of the last calibrator: `Calibrator.fitted`
    uncalibrated: np.ndarray | None = None  # [S, N, K]: what the first calibrator was fitted to

    @property
    def temperature(self) -> dict | None:
        """The fitted temperature; None where there is none, or another calibrator after it."""
        return self.fitted if self.calibrators[-1:] == ("temperature",) else None


def _seconds(run: Callable[[], Any]) -> float:
    """The time that a compiled function takes: of one call if that is long, else the best of 3."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 2.0:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def _calibrated(
    name: str, predictions: Predictions, labels: dict[str, np.ndarray], seed: int
) -> Predictions:
    """The predictions after a calibrator; see `calibrate_predictions`."""
    log_probs = predictions.log_probs
    split = "valid" if "valid" in log_probs else "test"
    apply, fitted = calibrate(name, log_probs[split], labels[split])
    if split == "valid":
        mapped = {n: apply(before) for n, before in log_probs.items()}
    else:
        mapped = {
            n: cross_calibrate(name, before, labels[n], seed) for n, before in log_probs.items()
        }
    names = (*predictions.calibrators, name)
    first = predictions.uncalibrated if predictions.calibrators else log_probs[split]
    return Predictions(mapped, predictions.milliseconds_per_image, names, fitted, first)


def calibrate_predictions(
    predictions: Predictions, names: tuple[str, ...], labels: dict[str, np.ndarray], seed: int
) -> dict[str, Predictions]:
    """The predictions after each one of some calibrators, fitted to the validation split.

    Without a validation split they are cross-fitted: each half of a split is mapped by the fit to
    its other half. What `fitted` then holds is the fit to the whole test split.

    Args:
        predictions: of the baseline.
        names: of calibrators.
        labels: by split: [N] int.
        seed: decides which half an example falls into.
    """
    return {name: _calibrated(name, predictions, labels, seed) for name in names}


def predict_splits(
    fitted: dict[str, Fitted],
    dataset: Dataset,
    key: jax.Array,
    batch_size: int,
    mesh: Mesh,
    base_milliseconds: float = 0.0,
) -> dict[str, Predictions]:
    """What trained methods predict of every split, after the calibrators of their recipes.

    Args:
        fitted: by the names that the result gets.
        dataset: what the methods take.
        key: fixes the draws.
        batch_size: B, a multiple of the number of devices.
        mesh: devices that share a batch.
        base_milliseconds: the time per image of a frozen base that ran before.
    """
    splits = dataset.splits
    labels = {name: split.labels for name, split in splits.items()}
    own: dict[Recipe, Predictions] = {}  # a method's own serve every calibrator around it

    def predict(method: Fitted, progress: str) -> Predictions:
        run = predictor(method.method, key, batch_size, mesh, progress=progress)
        log_probs = {split: run(method.state, splits[split].images) for split in SPLITS}
        seconds = _seconds(partial(run, method.state, splits["test"].images))
        return Predictions(log_probs, base_milliseconds + 1e3 * seconds / len(labels["test"]))

    result = {}
    for name, method in fitted.items():
        within = uncalibrated(method.recipe)
        if within not in own:
            own[within] = predict(method, f"{name}: predicting")
        result[name] = reduce(
            lambda before, calibrator: _calibrated(calibrator, before, labels, 0),
            calibrators_of(method.recipe),
            own[within],
        )
    return result


def predictions_of_file(file: PredictionsFile, seed: int) -> dict[str, Predictions]:
    """The given predictions, and the same after temperature scaling.

    Args:
        file: the predictions.
        seed: decides which half an example falls into where T has to be cross-fitted.
    """
    rows = {split: file.split == split for split in SPLITS if split in file.split}
    point = Predictions({split: file.log_probs[None, mask] for split, mask in rows.items()}, None)
    labels = {split: file.labels[mask] for split, mask in rows.items()}
    return {"point": point} | calibrate_predictions(point, ("temperature",), labels, seed)
