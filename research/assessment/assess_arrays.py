"""Assessments from Python: of arrays of predictions, and of a Keras model with arrays of images.

In a notebook:

    assessment = assess_predictions(probs, labels)
    assessment                              # shows the report
    assessment.result["methods"]            # its numbers

Without a directory nothing is left on the disk.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.assessment.assess import assess, assess_file
from research.assessment.options import AssessmentOptions
from research.assessment.result import Assessment
from research.assessment.write import write
from research.data.load import DataOptions
from research.data.predictions import read_predictions
from research.models.network import NetworkOptions
from research.runtime.errors import UserError
from research.runtime.mesh import data_mesh
from research.runtime.run import Run
from research.training.fit import TrainingOptions

KINDS = ("probs", "logits", "log_probs")
DEFAULTS = AssessmentOptions()


@contextlib.contextmanager
def _folder(directory: Path | str | None) -> Iterator[Path]:
    """The directory, made where it is missing, or one that is removed afterwards."""
    if directory is not None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _save(path: Path, arrays: dict[str, Any]) -> None:
    """Writes those of the arrays that are given; names are saved as strings."""
    given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    np.savez(path, allow_pickle=False, **given)


def assess_predictions(
    predictions: np.ndarray,
    labels: np.ndarray,
    *,
    kind: str = "probs",
    classes: Sequence[str] | None = None,
    split: Sequence[str] | None = None,
    options: AssessmentOptions = DEFAULTS,
    seed: int = 0,
    directory: Path | str | None = None,
) -> Assessment:
    """Assesses the predictions of any classifier.

    Args:
        predictions: [N, K]; [N] are those of the second of two classes.
        labels: [N], numbers from 0 or names of classes.
        kind: "probs", "logits" or "log_probs".
        classes: K names; None: "0", "1", ...
        split: [N], "train", "valid" or "test"; None: all are of the test split.
        options: of which `calibrate` and `max_error` are read.
        seed: of the bootstrap and of the halves that calibrators are fitted to.
        directory: gets report.html and result.json; None: nothing is written.

    Raises:
        UserError: the arrays are no predictions.
    """
    if kind not in KINDS:
        raise UserError("kind", f"choose from {', '.join(KINDS)}", value=kind)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "predictions.npz"
        _save(path, {kind: predictions, "labels": labels, "classes": classes, "split": split})
        file = read_predictions(path)
    assessment = assess_file(file, "predictions", options, seed)
    if directory is not None:
        write(assessment, Path(directory))
    return assessment


def assess_keras(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    split: Sequence[str] | None = None,
    options: AssessmentOptions = DEFAULTS,
    seed: int = 0,
    directory: Path | str | None = None,
) -> Assessment:
    """Assesses a Keras model as it is on images.

    Args:
        model: the model, or the path of a .keras or .h5 file.
        images: [N, H, W] or [N, H, W, 3], uint8, or float in 0..1.
        labels: [N], numbers from 0 or names of classes.
        classes: K names, in the order of the model's outputs; None: the labels in their order.
        split: [N], "train", "valid" or "test"; None: the images are split at random.
        options: what is tried beside the model as it is.
        seed: of splits, trainings and the bootstrap.
        directory: gets everything that a run of experiments.diagnose writes; None: nothing is.

    Raises:
        UserError: the model cannot be read, or does not fit the images.
    """
    with _folder(directory) as folder, tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "images.npz"
        _save(data, {"images": images, "labels": labels, "classes": classes, "split": split})
        path = model
        if not isinstance(model, str | Path):
            path = Path(temporary) / f"{model.name}.keras"
            model.save(path)
        run = Run(folder, data_mesh(), seed)
        network = NetworkOptions(model=Path(path))
        assessment = assess(DataOptions(str(data)), network, TrainingOptions(), options, run)
        if directory is not None:
            write(assessment, folder)
        return assessment
