"""The library on arrays, for a notebook and for whoever has no files.

In a notebook:

    research.evaluate(probs, labels)                                  # every metric, with intervals
    swag = research.fit("ensemble(swag(rank=10))", images, labels)    # any method of the table
    research.evaluate(swag.predict(new_images), new_labels, kind="log_probs")
"""

import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.model_selection import train_test_split

from research.calibrators.fit import calibrate_in_turn
from research.data.dataset import Dataset, Split
from research.data.images import from_array
from research.data.splits import SHARE
from research.metrics import evaluate as metrics
from research.metrics import format
from research.models.chain import Chain, as_model
from research.models.features import identify
from research.models.layers import Dense, Dropout, Layer
from research.models.network import NetworkOptions
from research.models.preprocess import PREPROCESS
from research.models.vgg import VGG16
from research.posteriors.predictive import Predictor, predictor
from research.runtime.errors import UserError
from research.runtime.mesh import check_batch_size, data_mesh
from research.runtime.run import Run
from research.training import fit as training
from research.training.fit import Fitted, Problem, TrainingOptions
from research.training.recipe import calibrators_of, parse

WIDTH = 0.25  # of the VGG16 for images
PREDICT_BATCH = 256


class Metrics(dict):
    """Estimates by the names of the metrics; a notebook shows them as a table."""

    def _rows(self) -> list[tuple[str, str]]:
        return [
            (format.metric_name(name), format.with_interval(name, estimate._asdict()))
            for name, estimate in self.items()
        ]

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def _repr_html_(self) -> str:
        rows = (f"<tr><td>{escape(n)}</td><td>{escape(v)}</td></tr>" for n, v in self._rows())
        return f"<table><tr><th>metric</th><th>value [95 %]</th></tr>{''.join(rows)}</table>"


def evaluate(predictions: Any, labels: Any, kind: str = "probs", seed: int = 0) -> Metrics:
    """Every metric of `research.metrics.evaluate.TABLE`, each with its 95 % interval.

    Args:
        predictions: [N, K], or [S, N, K] of S draws, whose probabilities are averaged.
        labels: [N] int, 0..K-1.
        kind: what the predictions are: "probs", "log_probs" or "logits".
        seed: seed of the bootstrap.

    Raises:
        UserError: there is no such kind, or rows are no distributions over the classes.
    """
    values = np.asarray(predictions, np.float64)
    if kind == "probs":
        with np.errstate(divide="ignore"):
            log_probs = np.log(values)
    elif kind in ("log_probs", "logits"):
        log_probs = values if kind == "log_probs" else log_softmax(values, axis=-1)
    else:
        raise UserError("kind", "give probs, log_probs or logits", value=kind)
    log_probs = log_probs if log_probs.ndim == 3 else log_probs[None]
    return Metrics(metrics.evaluate(log_probs, np.asarray(labels), seed=seed))


@dataclass(frozen=True)
class FittedMethod:
    """A method that was fitted to arrays and predicts others."""

    fitted: Fitted
    predict_own: Predictor  # before the calibrators of the recipe
    calibrate: Any  # [S, N, K] -> [S', N, K]

    def predict(self, inputs: Any) -> np.ndarray:
        """Log-probabilities [S, N, K] of S draws, after the calibrators of the recipe.

        Args:
            inputs: images or features, as the method was fitted to.
        """
        return self.calibrate(self.predict_own(self.fitted.state, _as_inputs(inputs)))

    def predict_proba(self, inputs: Any) -> np.ndarray:
        """Probabilities [N, K], averaged over the draws."""
        log_probs = np.asarray(self.predict(inputs), np.float64)
        return np.exp(logsumexp(log_probs, axis=0)) / len(log_probs)


def fit(
    recipe: str,
    inputs: Any,
    labels: Any,
    *,
    valid: tuple[Any, Any] | None = None,
    layers: tuple[Layer, ...] | None = None,
    options: TrainingOptions | None = None,
    directory: Path | None = None,
    seed: int = 0,
) -> FittedMethod:
    """Fits any method of the table to arrays.

    Args:
        recipe: such as "ensemble(swag(rank=10), num_members=3)" or "temperature(point)".
        inputs: images [N, H, W] or [N, H, W, 1 | 3 | 4] uint8, or features [N, D].
        labels: [N] int, 0..K-1.
        valid: inputs and labels that decide when training stops, and to which calibrators are
            fitted; None: 15 % of the others, of each class.
        layers: the network (`research.models.layers`); None: a VGG16 of a quarter of the width for
            images, a hidden layer of 64 units with dropout for features.
        options: how `point` is trained.
        directory: where the course of the training is kept, from which the same call goes on;
            None: it is not kept.
        seed: decides the split, initial weights, order and noise.

    Raises:
        UserError: bad options, or training diverged.
    """
    (method,) = parse(recipe)
    run = Run(directory or Path(), data_mesh(), seed)
    options = options or TrainingOptions(batch_size=run.batch(TrainingOptions.batch_size))
    check_batch_size(options.batch_size, run.mesh)
    dataset = _dataset(_as_inputs(inputs), np.asarray(labels, np.int32), valid, seed)
    problem = Problem(_network(dataset, layers), dataset)
    with tempfile.TemporaryDirectory() as temporary:
        if directory is None:
            run = Run(Path(temporary), run.mesh, seed)
        fitted = training.fit(run.key("train"), method, problem, options, run)
    predict_own = predictor(fitted.method, run.key("draw"), run.batch(PREDICT_BATCH), run.mesh)
    held_out = predict_own(fitted.state, dataset.valid.images)
    calibrate = calibrate_in_turn(calibrators_of(method), held_out, dataset.valid.labels)
    return FittedMethod(fitted, predict_own, calibrate)


def _as_inputs(inputs: Any) -> np.ndarray:
    """Features [N, D] as float32, images as [N, H, W, 3] uint8.

    Raises:
        UserError: they are neither.
    """
    array = np.asarray(inputs)
    if array.ndim == 2:
        return array.astype(np.float32)
    if array.ndim not in (3, 4) or array.dtype != np.uint8:
        way_out = "give images [N, H, W, 3] uint8 or features [N, D]"
        raise UserError("inputs", way_out, value=f"{array.dtype} {list(array.shape)}")
    return np.stack([np.asarray(from_array(image)) for image in array])


def _dataset(inputs: np.ndarray, labels: np.ndarray, valid, seed: int) -> Dataset:
    """The arrays as a data set, which is without a test split of its own."""
    if valid is None:
        rows = np.arange(len(labels))
        train, rest = train_test_split(rows, test_size=SHARE, stratify=labels, random_state=seed)
        valid = inputs[rest], labels[rest]
        inputs, labels = inputs[train], labels[train]
    others = _as_inputs(valid[0]), np.asarray(valid[1], np.int32)
    splits = [
        Split(images, of, np.arange(len(of)).astype(str))
        for images, of in ((inputs, labels), others)
    ]
    classes = tuple(str(k) for k in range(1 + max(int(split.labels.max()) for split in splits)))
    dataset = Dataset("arrays", classes, splits[0], splits[1], splits[1])
    return dataset._replace(fingerprint=identify("arrays", (inputs, labels, *others), dataset))


def _network(dataset: Dataset, layers: tuple[Layer, ...] | None):
    """The network of these layers, or the one that suits the data, as methods know it."""
    images, num_classes = dataset.train.images, len(dataset.classes)
    is_images = len(images.shape) == 4
    if layers is None and is_images:
        head = NetworkOptions().resolved_head(images.shape[1])
        layers = VGG16(num_classes, head, WIDTH).layers
    hidden = Dense("hidden", 64, "relu"), Dropout(0.1), Dense("predictions", num_classes)
    network = Chain(layers or hidden)
    return as_model(network, PREPROCESS["torch"]) if is_images else as_model(network)
