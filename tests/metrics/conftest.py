"""Predictions to measure: real-looking, saturated and tied ones."""

from typing import NamedTuple

import numpy as np
import pytest

from research.metrics.scores import Scores, scores


class Sample(NamedTuple):
    """Log-probabilities, labels, and what they amount to."""

    log_probs: np.ndarray  # [S, N, K] float32
    labels: np.ndarray  # [N]
    scores: Scores


def make(seed: int, num_examples: int, num_classes: int, *, decimals: int | None = None) -> Sample:
    """Over-confident predictions: labels are drawn from probabilities with half the logits.

    `decimals` rounds the probabilities, so that many are tied and some are exactly 0 or 1.
    """
    generator = np.random.default_rng(seed)
    logits = 4 * generator.normal(size=(num_examples, num_classes))
    truth = np.exp(logits / 2)
    truth /= truth.sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(num_classes, p=p) for p in truth])
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        probs = probs.round(decimals)
        probs[np.arange(num_examples), probs.argmax(axis=1)] += 1 - probs.sum(axis=1)
    log_probs = np.log(probs, out=np.full_like(probs, -np.inf), where=probs > 0)
    log_probs = log_probs.astype(np.float32)[None]
    return Sample(log_probs, labels, scores(log_probs, labels))


@pytest.fixture(scope="session")
def smooth() -> Sample:
    """450 examples (a multiple of 15), 4 classes, no ties."""
    return make(0, 450, 4)


@pytest.fixture(scope="session")
def tied() -> Sample:
    """300 examples, 3 classes, probabilities to one decimal: many ties, many exactly 0 or 1."""
    return make(1, 300, 3, decimals=1)


@pytest.fixture(scope="session")
def binary() -> Sample:
    """200 examples, 2 classes."""
    return make(2, 200, 2)


@pytest.fixture(scope="session", params=["smooth", "tied", "binary"])
def sample(request: pytest.FixtureRequest) -> Sample:
    """Each of the three."""
    return request.getfixturevalue(request.param)
