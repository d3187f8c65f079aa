"""A healthy classifier of made-up features, and its answers; each test plants one fault."""

import numpy as np
import pytest
from scipy.special import log_softmax

from research.diagnosis.evidence import Evidence, EvidenceSplit

SIZES = {"train": 400, "valid": 200, "test": 300}
CENTRES = 1.6 * np.eye(3, 6)


def true_log_probs(features):
    """What is known of the class from features drawn around `CENTRES` with variance 1."""
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


@pytest.fixture
def data():
    """Features and labels by split."""
    generator = np.random.default_rng(0)
    return {name: sample(n, generator) for name, n in SIZES.items()}
