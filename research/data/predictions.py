"""Predictions that some other program made: `.npz` or `.csv` in, log-probabilities out.

Probabilities of exactly 0 or 1 have lost what the logits knew. Zeros are counted and taken as
`SMALLEST`, so that every number stays finite; the count is reported.
"""

import csv
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from research.errors import UserError

SMALLEST = 1e-12  # what a probability of 0 is taken for: 27.6 nats if it was the truth
SUM_TOLERANCE = 1e-3  # how far a row of probabilities may be from 1: files are often rounded
SPLITS = ("train", "valid", "test")


class PredictionsFile(NamedTuple):
    """What a predictions file holds."""

    log_probs: np.ndarray  # [N, K] float64, normalised
    labels: np.ndarray  # [N] int
    ids: np.ndarray  # [N] str
    split: np.ndarray  # [N] str: train, valid or test; all "test" where the file does not say
    classes: tuple[str, ...]
    notes: tuple[str, ...]  # plain sentences for the report


def _rows(bad: np.ndarray) -> str:
    """Names up to five rows: "row 3", "rows 3, 17 and 5 more"."""
    numbers = np.flatnonzero(bad)
    named = ", ".join(str(n) for n in numbers[:5])
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"row{'s' if len(numbers) > 1 else ''} {named}{more} (counted from 0)"


def _from_probs(path: Path, probs: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Checks probabilities [N, K] and takes their logarithm."""
    logits_hint = "if these are logits, name the array logits (.npz) or give --logits (.csv)"
    for bad, what in (
        (np.isnan(probs).any(axis=1), "NaN"),
        ((probs < 0).any(axis=1), f"negative probabilities; {logits_hint}"),
        ((probs > 1 + SUM_TOLERANCE).any(axis=1), f"probabilities above 1; {logits_hint}"),
        (
            np.abs(probs.sum(axis=1) - 1) > SUM_TOLERANCE,
            f"probabilities that do not sum to 1; {logits_hint}",
        ),
    ):
        if bad.any():
            raise UserError(f"--predictions {path}: {_rows(bad)}: {what}")
    zeros = int(np.sum((probs == 0).any(axis=1)))
    notes = ()
    if zeros:
        notes = (
            f"{zeros} of {len(probs)} predictions give some class a probability of exactly 0: the "
            f"file is rounded. Each 0 is taken as {SMALLEST:g}; save logits to lose nothing.",
        )
    floored = np.maximum(probs.astype(np.float64), SMALLEST)
    return np.log(floored / floored.sum(axis=1, keepdims=True)), notes


def _as_two_classes(scores: np.ndarray, kind: str) -> np.ndarray:
    """A single column is the positive class of two: [N] or [N, 1] -> [N, 2]."""
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores
    positive = scores.reshape(len(scores), 1).astype(np.float64)
    if kind == "probs":
        return np.concatenate([1 - positive, positive], axis=1)
    return np.concatenate([np.zeros_like(positive), positive], axis=1)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"--predictions {path}: not a readable .npz of plain arrays ({error}); "
            "write it with numpy.savez(file, probs=..., labels=...)"
        ) from error
    kinds = [kind for kind in ("logits", "log_probs", "probs") if kind in arrays]
    if not kinds or "labels" not in arrays:
        raise UserError(
            f"--predictions {path}: holds {', '.join(sorted(arrays)) or 'nothing'}; "
            "it needs an array probs or logits [N, K], and labels [N]"
        )
    return arrays, kinds[0]


def _read_csv(path: Path, label_column: str, is_logits: bool) -> tuple[dict[str, np.ndarray], str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--predictions {path}: not a readable .csv ({error})") from error
    if len(rows) < 2:
        raise UserError(f"--predictions {path}: needs a header line and at least one row")
    header, *body = [[cell.strip() for cell in row] for row in rows]
    ragged = np.array([len(row) != len(header) for row in body])
    if ragged.any():
        raise UserError(
            f"--predictions {path}: {_rows(ragged)}: not {len(header)} columns like the header"
        )
    is_index = label_column.lstrip("-").isdigit() and label_column not in header
    if is_index and -len(header) <= int(label_column) < len(header):
        label_column = header[int(label_column)]
    if label_column not in header:
        raise UserError(
            f"--label_column {label_column}: {path} has the columns {', '.join(header)}; "
            "name one of them, or give its number from 0"
        )
    cells = np.array(body)
    columns = {name: cells[:, i] for i, name in enumerate(header)}
    other = {label_column, "split", "id"}
    classes = [name for name in header if name not in other]
    if not classes:
        raise UserError(f"--predictions {path}: no class columns beside {', '.join(header)}")
    try:
        scores = np.array([columns[name].astype(np.float64) for name in classes]).T
    except ValueError as error:
        raise UserError(
            f"--predictions {path}: a class column holds text ({error}); columns other than the "
            "label, split and id must be numbers"
        ) from error
    arrays = {"scores": scores, "labels": columns[label_column]}
    if len(classes) > 1:
        arrays["classes"] = np.array(classes)
    arrays |= {name: columns[name] for name in ("split", "id") if name in columns}
    kind = "logits" if is_logits else "probs"
    arrays[kind] = arrays.pop("scores")
    return arrays, kind


def _read_labels(path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as numbers 0..K-1: given as such, or as class names."""
    labels = labels.reshape(-1)
    if labels.dtype.kind in "US":
        if set(labels.tolist()) <= set(classes):
            return np.array([classes.index(label) for label in labels.tolist()])
        try:
            labels = labels.astype(np.float64)
        except ValueError:
            unknown = np.array([label not in classes for label in labels.tolist()])
            raise UserError(
                f"--predictions {path}: {_rows(unknown)}: labels that are neither numbers nor "
                f"one of the classes {', '.join(classes)}"
            ) from None
    bad = (labels != np.floor(labels)) | (labels < 0) | (labels >= len(classes))
    if bad.any():
        raise UserError(
            f"--predictions {path}: {_rows(bad)}: labels out of range; with {len(classes)} classes "
            f"they run from 0 to {len(classes) - 1}"
        )
    return labels.astype(np.int64)


def read_predictions(
    path: Path, label_column: str = "label", is_logits: bool = False
) -> PredictionsFile:
    """Reads predicted probabilities or logits with their labels.

    Args:
        path: `.npz` with `probs` (or `logits`, or `log_probs`) [N, K] and `labels` [N], optionally
            `split`, `ids` and `classes`; or `.csv` with a header, a label column and one column a
            class, optionally `split` and `id`. One score column alone is the probability of class 1
            of two.
        label_column: of a `.csv`, by name or by number from 0.
        is_logits: the columns of a `.csv` are logits.

    Raises:
        UserError: the file cannot be read, or rows are no distributions, or labels are out of
        range.
    """
    if not path.is_file():
        raise UserError(f"--predictions {path}: no such file")
    if path.suffix.lower() == ".npz":
        arrays, kind = _read_npz(path)
    elif path.suffix.lower() == ".csv":
        arrays, kind = _read_csv(path, label_column, is_logits)
    else:
        raise UserError(f"--predictions {path}: must be a .npz or a .csv file")

    scores, labels = arrays[kind], np.asarray(arrays["labels"])
    if scores.dtype.kind not in "fiu" or scores.ndim not in (1, 2):
        raise UserError(f"--predictions {path}: {kind} must be numbers of shape [N, K]")
    labels = labels.reshape(-1)
    if len(scores) != len(labels) or not len(labels):
        raise UserError(f"--predictions {path}: {len(scores)} predictions for {len(labels)} labels")
    scores = _as_two_classes(scores, kind)
    num_classes = scores.shape[1]
    classes = tuple(map(str, arrays.get("classes", range(num_classes))))
    if len(classes) != num_classes:
        raise UserError(
            f"--predictions {path}: {len(classes)} class names for {num_classes} columns of {kind}"
        )
    notes = ()
    if kind == "probs":
        log_probs, notes = _from_probs(path, scores)
    else:
        bad = ~np.isfinite(scores).all(axis=1)
        if bad.any():
            raise UserError(f"--predictions {path}: {_rows(bad)}: {kind} that are not finite")
        log_probs = log_softmax(scores.astype(np.float64), axis=1)
    split = np.asarray(arrays.get("split", np.full(len(labels), "test"))).astype(str)
    split = np.where(np.isin(split, ("val", "validation")), "valid", split)
    unknown = ~np.isin(split, SPLITS)
    if unknown.any():
        raise UserError(
            f"--predictions {path}: {_rows(unknown)}: split must be one of {', '.join(SPLITS)}"
        )
    if "test" not in split:
        raise UserError(f"--predictions {path}: no row of the split test; that is what is judged")
    ids = np.asarray(arrays.get("ids", arrays.get("id", np.arange(len(labels))))).astype(str)
    return PredictionsFile(
        log_probs, _read_labels(path, labels, classes), ids, split, classes, notes
    )
