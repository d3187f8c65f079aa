"""Predictions that some other program made: `.npz` or `.csv` in, log-probabilities out.

Probabilities of exactly 0 have lost what the logits knew. They are counted and taken as `SMALLEST`,
so that every number stays finite; the count is reported.
"""

import csv
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, logsumexp

from research.data.dataset import SPLITS, first_five
from research.data.sources.npz import read_arrays
from research.runtime.errors import UserError

SMALLEST = 1e-12  # what a probability of 0 is taken for: 27.6 nats if it was the truth
SUM_TOLERANCE = 1e-3  # how far a row of probabilities may be from 1: files are often rounded
ROUNDING = 1e-6  # how far below 0 float32 may take a probability
KINDS = ("logits", "log_probs", "probs")
IDS = ("ids", "id", "")  # the last: what pandas calls the index in a .csv


class PredictionsFile(NamedTuple):
    """What a predictions file holds."""

    log_probs: np.ndarray  # [N, K] float64, normalised
    labels: np.ndarray  # [N] int
    ids: np.ndarray  # [N] str
    split: np.ndarray  # [N] str: train, valid or test; all "test" where the file does not say
    classes: tuple[str, ...]
    notes: tuple[str, ...]  # plain sentences for the report


def _error(path: Path, problem: str, way_out: str = "") -> UserError:
    return UserError("predictions", problem, way_out, value=path)


def _check_rows(path: Path, bad: ArrayLike, what: str) -> None:
    """Raises a `UserError` that names the first five of the rows that `bad` [N] marks."""
    numbers = np.flatnonzero(bad)
    if len(numbers):
        named = first_five(numbers.astype(str).tolist())
        rows = f"row{'s' if len(numbers) > 1 else ''} {named} (counted from 0)"
        raise _error(path, f"{rows}: {what}")


def _normalise(
    path: Path, kind: str, scores: np.ndarray, way_out: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Checks scores [N, K] and gives their log-probabilities, with notes.

    Raises:
        UserError: rows that are no distributions; `way_out` ends the message.
    """
    _check_rows(path, np.isnan(scores).any(axis=1), f"NaN or text among the {kind}; {way_out}")
    if kind == "logits":
        _check_rows(path, np.isinf(scores).any(axis=1), "infinite logits; save finite ones")
        if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=SUM_TOLERANCE):
            what = "what is given as logits are probabilities: each row sums to 1"
            raise _error(path, what, "name the array probs (.npz), or leave `logits` out (.csv)")
        return log_softmax(scores, axis=1), ()
    if kind == "probs":
        outside = (scores < -ROUNDING) | (scores > 1 + SUM_TOLERANCE)
        what = f"probabilities below 0 or above 1; {way_out}"
        _check_rows(path, outside.any(axis=1), what)
        with np.errstate(divide="ignore"):
            scores = np.log(np.maximum(scores, 0))
    off = ~(np.abs(logsumexp(scores, axis=1)) <= SUM_TOLERANCE)
    _check_rows(path, off, f"probabilities that do not sum to 1; {way_out}")
    zero = np.isneginf(scores)
    notes = ()
    if zero.any():
        notes = (
            f"{zero.any(axis=1).sum()} of {len(scores)} predictions give some class a probability "
            f"of exactly 0: the file is rounded. Each 0 is taken as {SMALLEST:g}; save logits to "
            "lose nothing.",
        )
    scores = np.where(zero, np.log(SMALLEST), scores)
    return scores - logsumexp(scores, axis=1, keepdims=True), notes


def _as_two_classes(scores: np.ndarray, kind: str) -> np.ndarray:
    """A single column is the positive class of two: [N] or [N, 1] -> [N, 2]."""
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores
    positive = scores.reshape(len(scores), 1)
    if kind == "probs":
        negative = 1 - positive
    elif kind == "log_probs":
        with np.errstate(divide="ignore", invalid="ignore"):
            negative = np.log(-np.expm1(positive))
    else:
        negative = np.zeros_like(positive)
    return np.concatenate([negative, positive], axis=1)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    arrays = {
        name: np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
        for name, array in read_arrays("predictions", path).items()
    }
    kinds = [kind for kind in KINDS if kind in arrays]
    if not kinds or "labels" not in arrays:
        way_out = "it needs an array probs or logits [N, K], and labels [N]"
        raise _error(path, f"holds {', '.join(sorted(arrays)) or 'nothing'}", way_out)
    return arrays, kinds[0]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


_numbers = np.vectorize(_number, otypes=[np.float64])  # of an array of texts; NaN: no number


def _read_csv(path: Path, label_column: str, is_logits: bool) -> tuple[dict[str, np.ndarray], str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # csv.Sniffer gives up on a file with one short row, and cannot name that row.
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, delimiter=delimiter)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _error(path, f"not a readable .csv ({error})", "save it as CSV in UTF-8") from error
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise _error(path, "needs a header line and at least one row")
    header, *body = rows
    what = f"not {len(header)} columns like the header; mend them"
    _check_rows(path, np.array([len(row) != len(header) for row in body]), what)
    if label_column not in header:
        number = int(label_column) if label_column.isdecimal() else len(header)
        if number >= len(header):
            what = f"{path} has the columns {', '.join(header)}"
            way_out = "name one of them, or give its number from 0"
            raise UserError("label_column", what, way_out, value=label_column)
        label_column = header[number]
    columns = dict(zip(header, np.array(body).T, strict=True))  # each [N] str
    if len(columns) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise _error(path, f"two columns are called {twice!r}", "rename one")
    texts = [name for name in ("split", *IDS) if name in columns and name != label_column]
    classes = [name for name in header if name not in (label_column, *texts)]
    if not classes:
        raise _error(path, f"no class columns beside {', '.join(header)}", "add one a class")
    kind = "logits" if is_logits else "probs"
    arrays = {name: columns[name] for name in texts}
    arrays["labels"] = columns[label_column]
    arrays[kind] = _numbers(np.stack([columns[name] for name in classes], axis=1))
    if len(classes) > 1:
        arrays["classes"] = np.array(classes)
    return arrays, kind


def _read_labels(path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as numbers 0..K-1: given as such, or as class names."""
    if labels.dtype.kind == "U":
        if set(labels.tolist()) <= set(classes):
            return np.array([classes.index(label) for label in labels.tolist()])
        numbers = _numbers(labels)
        unknown = np.isnan(numbers) & ~np.isin(labels, classes)
        what = "labels that are neither numbers nor one of the classes"
        _check_rows(path, unknown, f"{what} {', '.join(classes)}")
        labels = numbers
    bad = (labels != np.floor(labels)) | (labels < 0) | (labels >= len(classes))
    what = f"labels out of range; with {len(classes)} classes they run from 0 to {len(classes) - 1}"
    _check_rows(path, bad, what)
    return labels.astype(np.int64)


def _read_split(path: Path, split: np.ndarray) -> np.ndarray:
    split = np.where(np.isin(split, ("val", "validation")), "valid", split)
    _check_rows(path, ~np.isin(split, SPLITS), f"split must be one of {', '.join(SPLITS)}")
    counts = {name: int(np.sum(split == name)) for name in SPLITS}
    if not counts["test"]:
        raise _error(path, "no row of the split test", "that is what is judged")
    for name, count in counts.items():
        if count == 1:
            raise _error(path, f"only one row of the split {name}", "give at least two")
    return split


def read_predictions(
    path: Path, label_column: str = "label", is_logits: bool = False
) -> PredictionsFile:
    """Reads predicted probabilities or logits with their labels.

    Args:
        path: `.npz` with `probs` (or `logits`, or `log_probs`) [N, K] and `labels` [N], optionally
            `split`, `ids` and `classes`; or `.csv` (comma, semicolon or tab) with a header, a label
            column and one column a class, optionally `split` and `id`. One score column alone is
            that of class 1 of two. Labels are numbers from 0, or class names.
        label_column: the label column of a `.csv`, by name or by number from 0.
        is_logits: whether the columns of a `.csv` are logits.

    Raises:
        UserError: the file cannot be read, or rows are no distributions, or labels are out of
            range.
    """
    bad = partial(_error, path)
    if not path.is_file():
        raise bad("no such file", "give a .npz or a .csv file")
    if path.suffix.lower() == ".npz":
        if is_logits or label_column != "label":
            way_out = f"{path} tells by the names of its arrays, logits and labels"
            raise UserError(None, "`logits`, `label_column`: are for a .csv", way_out)
        arrays, kind = _read_npz(path)
        way_out = "mend these rows, or name the array logits if that is what it holds"
    elif path.suffix.lower() == ".csv":
        arrays, kind = _read_csv(path, label_column, is_logits)
        names = arrays.get("classes", ["one alone"])
        shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        way_out = f"the class columns are taken to be {shown}; mend them, or give `logits`"
    else:
        raise bad("must be a .npz or a .csv file")

    scores, labels = arrays[kind], arrays["labels"]
    if scores.dtype.kind not in "fiu" or scores.ndim not in (1, 2) or not scores.size:
        raise bad(f"{kind} must be numbers of shape [N, K]")
    if labels.shape not in ((len(scores),), (len(scores), 1)) or labels.dtype.kind not in "biufU":
        found = f"labels of shape {labels.shape} and type {labels.dtype}"
        way_out = "give one number or class name a row"
        raise bad(f"{len(scores)} rows of {kind} for {found}", way_out)
    rows = np.arange(len(scores))
    ids = next((arrays[name] for name in IDS if name in arrays), rows).astype(str)
    split = arrays.get("split", np.full(len(rows), "test")).astype(str)
    if split.shape != rows.shape or ids.shape != rows.shape:
        raise bad("split and ids must have one entry a row")
    scores = _as_two_classes(scores.astype(np.float64), kind)
    num_classes = scores.shape[1]
    names = arrays["classes"] if "classes" in arrays else np.arange(num_classes)
    classes = tuple(np.ravel(names).astype(str).tolist())
    if len(classes) != num_classes or len(set(classes)) != num_classes:
        needed = f"{num_classes} columns of {kind} need as many different class names"
        raise bad(f"{needed}, not {len(classes)}")
    log_probs, notes = _normalise(path, kind, scores, way_out)
    labels = _read_labels(path, labels.reshape(-1), classes)
    return PredictionsFile(log_probs, labels, ids, _read_split(path, split), classes, notes)
