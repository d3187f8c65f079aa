"""A result.json made by hand: every number can be set, nothing is computed or trained."""

import numpy as np
import pytest

from research.metrics.evaluate import DESCRIPTIONS
from research.metrics.intervals import wilson
from research.metrics.reliability import confidence_histogram
from research.report.findings import findings
from research.report.next_steps import next_steps
from research.report.result import SCHEMA_VERSION


def estimate(value, low=None, high=None) -> dict:
    """A number whose interval is a tenth of it either way where none is given."""
    if value is None:
        return {"value": None, "low": None, "high": None, "interval": "undefined"}
    low, high = value * 0.9 if low is None else low, value * 1.1 if high is None else high
    return {"value": value, "low": low, "high": high, "interval": "bootstrap"}


def make_split(
    n=1000, errors=40, confidence=0.999, uncertainty_of_errors=(0.05, 1e-4, 1e-9), **metrics
):
    """One split of one method.

    Args:
        n: images.
        errors: how many are wrong.
        confidence: mean confidence.
        uncertainty_of_errors: uncertainties of the mistakes, repeated in turn.
        metrics: other metrics, as numbers, or as dicts where the interval matters; "__" stands for
            the dot in a name.
    """
    accuracy = 1 - errors / n
    low, high = (float(end) for end in wilson(np.asarray(n - errors), np.asarray(n)))
    values = {name: estimate(0.3) for name in DESCRIPTIONS}
    values |= {
        "accuracy": estimate(accuracy, low, high),
        "mean_confidence": estimate(confidence, confidence, confidence),
        "overconfidence": estimate(confidence - accuracy),
        "confidence_on_errors": estimate(0.93 if errors else None),
        "share_above_0.999999": estimate(0.0),
        "share_identical": estimate(0.001),
        "ece": estimate(0.03, 0.025, 0.035),
        "perfectly_calibrated_ece": estimate(0.005, 0.001, 0.01),
        "accuracy_at_coverage_0.9": estimate(0.99, 0.98, 0.995),
    }
    for name, given in metrics.items():
        values[name.replace("__", ".")] = given if isinstance(given, dict) else estimate(given)
    uncertainty = np.concatenate(
        [np.full(n - errors, 1e-7), np.resize(uncertainty_of_errors, errors)]
    )
    correct = np.arange(n) < n - errors
    empty = [None] * 13
    return {
        "n": n,
        "errors": errors,
        "metrics": values,
        "reliability": {
            "edges": [i / 15 for i in range(16)],
            "count": [0] * 13 + [10, n - 10],
            "confidence": [*empty, 0.9, confidence],
            "accuracy": [*empty, 0.5, accuracy],
            "low": [*empty, 0.24, low],
            "high": [*empty, 0.76, high],
        },
        "histogram": confidence_histogram(uncertainty, correct),
    }


FIT = {
    "value": 2.31,
    "low": 2.1,
    "high": 2.5,
    "nll_before": 0.4,
    "nll_after": 0.2,
    "separable": False,
    "diverged": 0,
}


def make_method(title="As it is", *, splits=None, temperature=None, **options):
    """One method; by default as it is on a test split."""
    method = {
        "title": title,
        "about": f"About {title}.",
        "draws": 1,
        "milliseconds_per_image": 41.2,
        "training_seconds": None,
        "against": [],
        "temperature": temperature,
        "decisions": None,
        "splits": splits or {"test": make_split()},
    }
    return method | options


def make_cause(cause, state, **fields):
    """One verdict of the diagnosis."""
    return {
        "cause": cause,
        "title": f"Title of {cause}",
        "state": state,
        "text": f"Evidence of {cause}.",
        "measure": f"number of {cause}",
        "number": estimate(0.5),
        "test": "a test",
        "effect": None,
        "advice": "",
        "suspects": [],
        "heat": None,
    } | fields


def make_result(methods=None, *, mistakes=(), data=None, model=None, diagnosis=()):
    """A whole result, with its findings and next steps."""
    result = {
        "schema_version": SCHEMA_VERSION,
        "command": "launch/run.sh experiments.diagnose --data photos/ --model model.keras",
        "created": "2025-01-31T12:00:00+00:00",
        "seconds": 133.2,
        "seed": 7,
        "max_error": 0.05,
        "commit": "0123abc",
        "versions": {"jax": "0.10.2"},
        "data": {
            "name": "photos/",
            "classes": ["bad", "good"],
            "image_size": 224,
            "counts": {"test": 1000},
            "given_splits": False,
            "facts": {},
            "notes": [],
        }
        | (data or {}),
        "model": {
            "description": "VGG16 with its own head",
            "source": "model.keras",
            "imported": True,
            "parameters": 14846530,
            "preprocess": {"name": "caffe", "reason": "it goes with Keras' weights"},
            "parity": 3.1e-6,
            "saturated_output": False,
            "training": None,
        }
        | (model or {}),
        "methods": methods or {"point": make_method()},
        "diagnosis": list(diagnosis),
        "mistakes": list(mistakes),
        "descriptions": DESCRIPTIONS,
    }
    for method in result["methods"].values():
        for name, split in method["splits"].items():
            before = result["methods"]["point"]["splits"][name]["metrics"]["nll"]["value"]
            after = split["metrics"]["nll"]["value"]
            change = None if before is None else after - before
            ends = () if change is None else (change - 0.02, change + 0.02)
            split["nll_change"] = estimate(change, *ends)
    result["findings"] = findings(result)
    result["next"] = next_steps(result)
    return result


HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def full_result() -> dict:
    """Three splits, three methods, three mistakes, and a class whose name is a script."""

    def splits(nll, ece):
        return {
            "train": make_split(n=4000, errors=0, confidence=0.9999, nll=0.001),
            "valid": make_split(n=500, errors=16, nll=nll),
            "test": make_split(n=1000, errors=40, nll=nll, ece=ece, share_above_0__999999=0.62),
        }

    mistakes = [
        {
            "id": f"good/IMG_{i}{'x' * 150 * (i == 1)}.jpg",  # one name too long for a line
            "label": "good",
            "prediction": HOSTILE,
            "confidence": confidence,
            "split": "test",
            "index": i,
        }
        for i, confidence in enumerate((0.999998, 0.9991, 0.85))
    ]
    return make_result(
        {
            "point": make_method(splits=splits(0.4, 0.035)),
            "mc_dropout": make_method("MC dropout", splits=splits(0.35, 0.03), draws=32),
            "temperature": make_method(
                "Temperature scaling", splits=splits(0.2, 0.008), temperature=FIT
            ),
        },
        mistakes=mistakes,
        diagnosis=[
            make_cause(
                "label_noise",
                "present",
                effect={"nll": estimate(0.21), "ece": 0.03},
                advice="Look at the 7 suspect labels.",
                suspects=[
                    {
                        "id": HOSTILE,
                        "label": HOSTILE,
                        "prediction": "good",
                        "split": "train",
                        "index": 3,
                    }
                ],
            ),
            make_cause("leakage", "present", effect={"nll": estimate(0.1), "ece": None}),
            make_cause("well_calibrated", "present"),
            make_cause("capacity", "cannot tell"),
            make_cause("shortcut", "absent", heat=np.eye(6).tolist()),
        ],
        data={
            "classes": [HOSTILE, "good"],
            "counts": {"train": 4000, "valid": 500, "test": 1000},
            "facts": {"duplicates": 4},
            "notes": ["4 images are copies of another."],
        },
    )
