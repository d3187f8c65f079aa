"""What a classifier predicts, as it is and after each cure that needs no new training."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from scipy.special import log_softmax

from research.classifier import Classifier
from research.data.predictions import SPLITS, PredictionsFile
from research.mesh import replicate
from research.methods.mc_dropout import mc_dropout
from research.methods.point import PointState, point
from research.methods.temperature import (
    UNFITTED,
    Fit,
    TemperatureState,
    cross_fit,
    fit_temperature,
    temperature,
)
from research.optimizer import make_optimizer
from research.predict import predictor


class Judged(NamedTuple):
    """One method's predictions."""

    log_probs: dict[str, np.ndarray]  # by split: [S, N, K]
    milliseconds_per_image: float | None  # None: the predictions were given
    fit: Fit | None = None  # of the temperature


def _seconds(run: Callable[[], Any]) -> float:
    """How long something compiled takes: once if that is long, else the best of three."""
    times = []
    while len(times) < 3 and sum(times) < 2.0:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def judge_classifier(
    classifier: Classifier,
    params: Any,
    key: jax.Array,
    batch_size: int,
    dropout_samples: int,
    mesh: Mesh,
) -> dict[str, Judged]:
    """Predicts every split as it is, with Monte Carlo dropout (if it has dropout) and tempered.

    Args:
        classifier: the network and its data.
        params: trained weights of `classifier.model`.
        key: fixes the draws.
        batch_size: B, a multiple of the number of devices.
        dropout_samples: S of Monte Carlo dropout.
        mesh: devices that share a batch.
    """
    tx = make_optimizer("sgd", 0.0)  # nothing is trained any more
    as_it_is = point(classifier.model, tx)
    state = replicate(PointState(params, ()), mesh)
    candidates = {"point": (as_it_is, state)}
    if classifier.has_dropout:
        candidates["mc_dropout"] = mc_dropout(classifier.model, tx, dropout_samples), state
    tempered = temperature(as_it_is)
    fitted = tempered.finish(key, TemperatureState(state, UNFITTED), classifier.dataset)
    candidates["temperature"] = tempered, fitted

    splits, judged = classifier.dataset.splits, {}
    for name, (method, trained) in candidates.items():
        predict = predictor(method, key, batch_size, mesh)
        log_probs = {split: predict(trained, splits[split].images) for split in SPLITS}
        seconds = _seconds(partial(predict, trained, splits["test"].images))
        judged[name] = Judged(
            log_probs,
            classifier.base_milliseconds + 1e3 * seconds / len(splits["test"].labels),
            jax.tree.map(float, trained.fit) if name == "temperature" else None,
        )
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
