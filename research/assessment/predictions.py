"""What methods predict of every split, and what it costs."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from scipy.special import log_softmax

from research.calibrators.fit import calibrate, cross_calibrate
from research.calibrators.temperature import Fit, cross_fit, fit_temperature
from research.data.dataset import Dataset
from research.data.predictions import SPLITS, PredictionsFile
from research.posteriors.predictive import predictor
from research.training.fit import Fitted


class Judged(NamedTuple):
    """One method's predictions."""

    log_probs: dict[str, np.ndarray]  # by split: [S, N, K]
    milliseconds_per_image: float | None  # None: the predictions were given
    fit: Fit | None = None  # of the temperature


def _seconds(run: Callable[[], Any]) -> float:
    """How long something compiled takes: once if that is long, else the best of three."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 2.0:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def judge_fitted(
    fitted: dict[str, Fitted],
    dataset: Dataset,
    key: jax.Array,
    batch_size: int,
    mesh: Mesh,
    base_milliseconds: float = 0.0,
) -> dict[str, Judged]:
    """What trained methods predict of every split.

    Args:
        fitted: by the names that the result gets.
        dataset: what the methods take.
        key: fixes the draws.
        batch_size: B, a multiple of the number of devices.
        mesh: devices that share a batch.
        base_milliseconds: an image, of a frozen base that ran before.
    """
    splits, judged = dataset.splits, {}
    for name, each in fitted.items():
        predict = predictor(each.method, key, batch_size, mesh, told=f"{name}: predicting")
        log_probs = {split: predict(each.state, splits[split].images) for split in SPLITS}
        seconds = _seconds(partial(predict, each.state, splits["test"].images))
        milliseconds = base_milliseconds + 1e3 * seconds / len(splits["test"].labels)
        fit = getattr(each.state, "fit", None)  # of a temperature
        judged[name] = Judged(log_probs, milliseconds, fit and jax.tree.map(float, fit))
    return judged


def judge_predictions(file: PredictionsFile, seed: int) -> dict[str, Judged]:
    """The given predictions, and tempered: T from the valid rows, or else by cross-fitting."""
    rows = {split: file.split == split for split in SPLITS if split in file.split}
    as_it_is = {split: file.log_probs[None, mask] for split, mask in rows.items()}
    labels = {split: file.labels[mask] for split, mask in rows.items()}
    if "valid" in rows:
        fit = fit_temperature(as_it_is["valid"], labels["valid"])
        tempered = {
            split: log_softmax(each / fit.temperature, axis=-1) for split, each in as_it_is.items()
        }
    else:
        fit = fit_temperature(as_it_is["test"], labels["test"])
        tempered = {split: cross_fit(each, labels[split], seed) for split, each in as_it_is.items()}
    return {"point": Judged(as_it_is, None), "temperature": Judged(tempered, None, fit)}


def judge_calibrated(
    as_it_is: Judged, names: tuple[str, ...], labels: dict[str, np.ndarray], seed: int
) -> dict[str, Judged]:
    """The predictions as they are after each calibrator, fitted to the validation split.

    Without one they are cross-fitted: each half of the test split by the other half's fit.

    Args:
        as_it_is: of the network without any cure.
        names: of calibrators.
        labels: by split: [N] int.
        seed: which half an example falls into.
    """
    judged, log_probs = {}, as_it_is.log_probs
    for name in names:
        if "valid" in log_probs:
            apply = calibrate(name, log_probs["valid"], labels["valid"]).apply
            calibrated = {split: apply(each) for split, each in log_probs.items()}
        else:
            calibrated = {
                split: cross_calibrate(name, each, labels[split], seed)
                for split, each in log_probs.items()
            }
        judged[name] = Judged(calibrated, as_it_is.milliseconds_per_image)
    return judged
