"""Predictions -> the numbers of result.json: one place decides what is judged, and how."""

from typing import Any

import numpy as np

from research.data.dataset import Dataset, Split
from research.data.predictions import SPLITS, PredictionsFile
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.metrics.evaluate import evaluate, nll_change
from research.metrics.reliability import confidence_histogram, reliability_curve
from research.metrics.scores import scores
from research.models.classifier import Classifier
from research.runtime.errors import flags

MOST_MISTAKES = 12
NEW = "new"  # the split of images that nobody has labelled


def _plain(value: Any) -> Any:
    """NumPy and NamedTuples -> what JSON holds; NaN and infinity become None."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _reliability(confidence: np.ndarray, correct: np.ndarray) -> dict:
    curve = reliability_curve(confidence, correct)._asdict()
    lower, upper = curve.pop("lower"), curve.pop("upper")
    edges = np.append(lower, upper[-1])
    return {name: _plain(each) for name, each in {"edges": edges, **curve}.items()}


def judge(log_probs: np.ndarray, labels: np.ndarray, as_it_is: np.ndarray, seed: int = 0) -> dict:
    """One method on one split.

    Args:
        log_probs: [S, N, K].
        labels: [N] int.
        as_it_is: [S, N, K] of the network without any cure, to compare with.
        seed: of the bootstrap.

    Returns:
        `n`, `errors`, `metrics` (by name: value, low, high, interval), `nll_change` (against
        `as_it_is`, paired), `reliability` and `histogram`.
    """
    s = scores(log_probs, labels)
    return {
        "n": len(labels),
        "errors": int(np.sum(~s.correct)),
        "metrics": {n: _plain(e) for n, e in evaluate(log_probs, labels, seed=seed).items()},
        "nll_change": _plain(nll_change(scores(as_it_is, labels), s, seed=seed)),
        "reliability": _reliability(s.confidence, s.correct),
        "histogram": confidence_histogram(s.doubt, s.correct),
    }


def most_confident_mistakes(
    log_probs: np.ndarray, split: Split, classes: tuple[str, ...]
) -> list[dict]:
    """The wrong answers that are surest.

    Args:
        log_probs: [S, N, K] of the test split.
        split: the test split; only labels and ids are looked at.
        classes: names.

    Returns:
        Dicts with `id`, `label`, `prediction`, `confidence`, `split` and `index`, surest first.
    """
    s = scores(log_probs, split.labels)
    wrong = np.flatnonzero(~s.correct)
    indices = wrong[np.argsort(s.doubt[wrong], kind="stable")][:MOST_MISTAKES]
    return [
        {
            "id": str(split.ids[i]),
            "label": classes[split.labels[i]],
            "prediction": classes[int(np.argmax(s.probs[i]))],
            "confidence": float(s.confidence[i]),
            "split": "test",
            "index": int(i),
        }
        for i in indices
    ]


def describe_diagnosis(
    found: list[Found], observed: Collected, splits: dict[str, Split], classes: tuple[str, ...]
) -> list[dict]:
    """The `diagnosis` of a result, in the order of `diagnose`.

    Args:
        found: the verdicts.
        observed: the evidence that they are about.
        splits: labels and ids of all images.
        classes: names.

    Returns:
        A dict for each cause: `cause`, `title`, `state`, `text`, `measure`, `number`, `test`,
        `effect`, `advice`, `heat` and `suspects` (dicts with `id`, `label`, `prediction`, `split`,
        `index`; new images have no label).
    """
    predicted = {
        name: scores(part.log_probs[None], part.labels).probs.argmax(axis=1)
        for name, part in observed.evidence.splits.items()
    }
    new = observed.evidence.new

    def suspect(split: str, index: int) -> dict:
        if split == NEW:
            row, name, label = index, new.ids[index], None
            prediction = new.log_probs[index].argmax()
        else:
            row = int(observed.rows[split][index])
            name, label = splits[split].ids[row], classes[splits[split].labels[row]]
            prediction = predicted[split][index]
        return {
            "id": str(name),
            "label": label,
            "prediction": classes[int(prediction)],
            "split": split,
            "index": row,
        }

    def describe(cause: Found) -> dict:
        verdict, effect = cause.verdict, cause.verdict.effect
        return {
            "cause": cause.cause,
            "title": cause.title,
            "state": verdict.state,
            "text": flags(verdict.text),
            "measure": verdict.measure,
            "number": verdict.number._asdict(),
            "test": verdict.test,
            "effect": effect and {"nll": effect.nll._asdict(), "ece": effect.ece},
            "advice": flags(verdict.advice),
            "suspects": [suspect(*place) for place in verdict.suspects],
            "heat": None if verdict.heat is None else verdict.heat.tolist(),
        }

    return [describe(cause) for cause in found]


def describe_data(dataset: Dataset) -> dict:
    """The `data` part of a result."""
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "image_size": int(dataset.test.images.shape[1]),
        "counts": {name: len(split.labels) for name, split in dataset.splits.items()},
        "given_splits": dataset.given_splits,
        "facts": dict(dataset.facts),
        "notes": list(dataset.notes),
    }


def describe_model(classifier: Classifier, training: dict | None) -> dict:
    """The `model` part of a result."""
    origin = classifier.origin
    return {
        "description": origin.description,
        "source": origin.source,
        "imported": classifier.trainable == "none",
        "parameters": origin.parameters,
        "preprocess": {"name": classifier.preprocess, "reason": flags(origin.preprocess_reason)},
        "parity": origin.parity,
        "saturated_output": origin.saturated_output,
        "training": training,
    }


def describe_predictions(name: str, file: PredictionsFile) -> tuple[dict, dict]:
    """The `data` and `model` parts of a result that is about a predictions file."""
    counts = {split: int(np.sum(file.split == split)) for split in SPLITS if split in file.split}
    data = {
        "name": name,
        "classes": list(file.classes),
        "image_size": None,
        "counts": counts,
        "given_splits": len(counts) > 1,
        "facts": {},
        "notes": list(file.notes),
    }
    model = {
        "description": f"the predictions in {name}",
        "source": name,
        "imported": True,
        "parameters": None,
        "preprocess": None,
        "parity": None,
        "saturated_output": bool(file.notes),
        "training": None,
    }
    return data, model
