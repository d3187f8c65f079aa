"""A sound classifier of made-up features, and its predictions; each test plants one fault."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from research.diagnosis.diagnose import diagnose, load
from research.diagnosis.evidence import Evidence, EvidenceSplit
from research.diagnosis.verdict import PRESENT

SIZES = {"train": 400, "valid": 200, "test": 300}
CENTRES = 1.6 * np.eye(3, 6)


def true_log_probs(features):
    """Log-probabilities of the classes, given features drawn around `CENTRES` with variance 1."""
    return log_softmax(features @ CENTRES.T - 0.5 * (CENTRES**2).sum(axis=1), axis=1)


def sample(n, generator, classes=3):
    """Features [n, 6] float32 and labels [n]."""
    labels = generator.integers(0, classes, n)
    features = CENTRES[labels] + generator.normal(size=(n, 6))
    return features.astype(np.float32), labels


def evidence_of(data, predict=true_log_probs, **fields):
    """Evidence from (features, labels) by split."""
    splits = {name: EvidenceSplit(predict(x), y, x) for name, (x, y) in data.items()}
    return Evidence(classes=("a", "b", "c"), splits=splits, **fields)


def examine(name, evidence):
    """The verdict of one cause."""
    return load(name).examine(evidence)


def named(evidence):
    """The causes that are present, in the order of the diagnosis."""
    return [f.cause for f in diagnose(evidence) if f.verdict.state == PRESENT]


def with_split(evidence, split, **fields):
    """The evidence with fields of a split changed."""
    changed = evidence.splits[split]._replace(**fields)
    return replace(evidence, splits=dict(evidence.splits) | {split: changed})


@pytest.fixture
def data():
    """Features and labels by split."""
    generator = np.random.default_rng(0)
    return {name: sample(n, generator) for name, n in SIZES.items()}
