"""From an assessment to result.json: every number on the page is computed here."""

import datetime
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from research.assessment.decisions import decide
from research.assessment.describe import NEW, describe_diagnosis
from research.assessment.predictions import Predictions
from research.assessment.remedies import Candidate
from research.assessment.titles import titles
from research.data.dataset import Split
from research.diagnosis.collect import Collected
from research.diagnosis.diagnose import Found
from research.metrics.evaluate import DESCRIPTIONS, evaluate, nll_change
from research.metrics.reliability import confidence_histogram, reliability_curve
from research.metrics.scores import scores
from research.report import page
from research.report.findings import findings
from research.report.next_steps import next_steps
from research.report.pictures import Pictures
from research.report.result import SCHEMA_VERSION
from research.runtime.run_folder import commit, versions

MOST_MISTAKES = 12
FRAME = '<iframe title="report" srcdoc="{}" style="width: 100%; height: 60em; border: 0"></iframe>'


@dataclass(frozen=True, eq=False)
class Assessment:
    """A classifier's predictions on every split, and why it is as sure as it is.

    In a notebook it shows itself as the report.
    """

    data: dict  # the parts `data` and `model` of the result
    model: dict
    classes: tuple[str, ...]
    splits: Mapping[str, Split]  # labels and ids; images where there are any
    predictions: Mapping[str, Predictions]  # by method; "point" is the network as it is
    collected: Collected
    found: list[Found]
    candidates: Mapping[str, Candidate] = field(default_factory=dict)  # fitted methods, by name
    seed: int = 0  # of the bootstrap
    max_error: float = 0.05  # the error rate allowed among the answers that are given
    seconds: float = 0.0  # what the assessment took
    command: str = ""  # what a person types to make it again

    @cached_property
    def result(self) -> dict:
        """What result.json holds."""
        return result(self)

    @cached_property
    def pictures(self) -> Pictures:
        """The images that the result points at, and the mean of the test images."""
        return _pictures(self)

    def _repr_html_(self) -> str:
        """The report, in a frame of its own."""
        return FRAME.format(html.escape(page.render(self.result, self.pictures)))


def result(assessment: Assessment) -> dict:
    """Computes what result.json holds; `result.schema.json` describes it."""
    predictions = assessment.predictions
    described = titles(predictions, assessment.candidates)
    contents = {
        "schema_version": SCHEMA_VERSION,
        "command": assessment.command,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "seconds": assessment.seconds,
        "seed": assessment.seed,
        "max_error": assessment.max_error,
        "commit": commit(),
        "versions": versions(),
        "data": assessment.data,
        "model": assessment.model,
        "methods": {name: _method(assessment, name, *described[name]) for name in predictions},
        "diagnosis": describe_diagnosis(
            assessment.found, assessment.collected, assessment.splits, assessment.classes
        ),
        "mistakes": most_confident_mistakes(
            predictions["point"].log_probs["test"], assessment.splits["test"], assessment.classes
        ),
        "descriptions": DESCRIPTIONS,
    }
    contents["findings"] = findings(contents)
    contents["next"] = next_steps(contents)
    return contents


def _method(assessment: Assessment, name: str, title: str, about: str) -> dict:
    predictions, baseline = assessment.predictions[name], assessment.predictions["point"]
    candidate, fit = assessment.candidates.get(name), predictions.temperature
    return {
        "title": title,
        "about": about,
        "against": list(candidate.against) if candidate else [],
        "training_seconds": candidate.fitted.seconds if candidate else None,
        "draws": len(predictions.log_probs["test"]),
        "milliseconds_per_image": predictions.milliseconds_per_image,
        "temperature": fit
        and {
            "value": fit["temperature"],
            **{n: fit[n] for n in ("low", "high", "nll_before", "nll_after")},
            **{n: fit[n] for n in ("separable", "diverged")},
        },
        "decisions": decide(predictions.log_probs, assessment.splits, assessment.max_error),
        "splits": {
            split: evaluate_split(
                log_probs,
                assessment.splits[split].labels,
                baseline.log_probs[split],
                assessment.seed,
            )
            for split, log_probs in predictions.log_probs.items()
        },
    }


def _plain(value: Any) -> Any:
    """Turns NumPy and NamedTuples into what JSON holds; NaN and infinity become None."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _reliability(confidence: np.ndarray, correct: np.ndarray) -> dict:
    curve = reliability_curve(confidence, correct)._asdict()
    lower, upper = curve.pop("lower"), curve.pop("upper")
    edges = np.append(lower, upper[-1])
    return {name: _plain(array) for name, array in {"edges": edges, **curve}.items()}


def evaluate_split(
    log_probs: np.ndarray, labels: np.ndarray, baseline: np.ndarray, seed: int = 0
) -> dict:
    """The numbers of one method on one split.

    Args:
        log_probs: [S, N, K].
        labels: [N] int.
        baseline: [S, N, K] of the network as it is, to compare with.
        seed: of the bootstrap.

    Returns:
        `n`, `errors`, `metrics` (by name: value, low, high, interval), `nll_change` (against
        `baseline`, paired), `reliability` and `histogram`.
    """
    s = scores(log_probs, labels)
    metrics = evaluate(log_probs, labels, seed=seed)
    return {
        "n": len(labels),
        "errors": int(np.sum(~s.correct)),
        "metrics": {name: _plain(estimate) for name, estimate in metrics.items()},
        "nll_change": _plain(nll_change(scores(baseline, labels), s, seed=seed)),
        "reliability": _reliability(s.confidence, s.correct),
        "histogram": confidence_histogram(s.uncertainty, s.correct),
    }


def most_confident_mistakes(
    log_probs: np.ndarray, split: Split, classes: tuple[str, ...]
) -> list[dict]:
    """The wrong answers of the highest confidence.

    Args:
        log_probs: [S, N, K] of the test split.
        split: the test split, of which labels and ids are read.
        classes: names.

    Returns:
        Dicts with `id`, `label`, `prediction`, `confidence`, `split` and `index`, the most
        confident first.
    """
    s = scores(log_probs, split.labels)
    wrong = np.flatnonzero(~s.correct)
    indices = wrong[np.argsort(s.uncertainty[wrong], kind="stable")][:MOST_MISTAKES]
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


def _pictures(assessment: Assessment) -> Pictures:
    contents, evidence = assessment.result, assessment.collected.evidence
    images = evidence.splits["test"].images
    if images is None:
        return Pictures()
    shown = [s for cause in contents["diagnosis"] for s in cause["suspects"]]
    places = sorted({(one["split"], one["index"]) for one in contents["mistakes"] + shown})

    def image(split: str, index: int) -> np.ndarray:
        new = evidence.new if split == NEW else None
        of_split = new.images if new else assessment.splits[split].images
        return of_split[index : index + 1][0]

    mean = np.asarray(images).mean(axis=0).astype(np.uint8)
    return Pictures({place: image(*place) for place in places}, mean)
