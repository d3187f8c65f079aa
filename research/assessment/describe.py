"""The parts of result.json that say what was assessed and why it is as sure as it is."""

from collections.abc import Mapping

import numpy as np

from research.data.dataset import SPLITS, Dataset, Split
from research.data.predictions import PredictionsFile
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.metrics.scores import scores
from research.models.classifier import Classifier
from research.runtime.errors import flags

NEW = "new"  # the split of images that nobody has labelled


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


def describe_diagnosis(
    found: list[Found], collected: Collected, splits: Mapping[str, Split], classes: tuple[str, ...]
) -> list[dict]:
    """The `diagnosis` of a result, in the order of `diagnose`.

    Args:
        found: the verdicts.
        collected: the evidence that they are about.
        splits: labels and ids of all images.
        classes: names.

    Returns:
        A dict for each cause: `cause`, `title`, `state`, `text`, `measure`, `number`, `test`,
        `effect`, `advice`, `heat` and `suspects` (dicts with `id`, `label`, `prediction`, `split`,
        `index`; new images have no label).
    """
    predicted = {
        name: scores(split.log_probs[None], split.labels).probs.argmax(axis=1)
        for name, split in collected.evidence.splits.items()
    }
    new = collected.evidence.new

    def suspect(split: str, index: int) -> dict:
        if split == NEW and new is not None:
            row, name, label = int(index), new.ids[index], None
            prediction = new.log_probs[index].argmax()
        else:
            row = int(collected.rows[split][index])
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
