"""What the classifier claims, beside what it delivers."""

import numpy as np

from research.metrics.weighted import bin_sums, mean, ratio, tie_groups, weighted


@weighted
def accuracy(correct: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Share of right answers."""
    return mean(correct, weights)


@weighted
def mean_confidence(confidence: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Mean probability of the predicted class."""
    return mean(confidence, weights)


@weighted
def overconfidence(
    confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """Mean confidence minus accuracy: above 0, it claims more than it delivers."""
    return mean(confidence - correct, weights)


@weighted
def confidence_on_errors(
    confidence: np.ndarray, correct: np.ndarray, *, weights: np.ndarray
) -> np.ndarray:
    """Mean confidence of the wrong answers; NaN where there are none."""
    wrong = 1.0 - correct
    return ratio(weights @ (confidence * wrong), weights @ wrong)


@weighted
def share_above(confidence: np.ndarray, threshold: float, *, weights: np.ndarray) -> np.ndarray:
    """Share of answers whose confidence is above `threshold`."""
    return mean(confidence > threshold, weights)


@weighted
def share_identical(confidence: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Share of answers that show the most common confidence, in float32 as a person sees it."""
    groups, size = tie_groups(confidence.astype(np.float32))
    counts = bin_sums(groups, np.ones(len(groups)), weights, size)
    return counts.max(axis=0) / weights.sum(axis=1)


@weighted
def mean_entropy(entropy: np.ndarray, *, weights: np.ndarray) -> np.ndarray:
    """Mean of a per-example entropy or mutual information, in nats."""
    return mean(entropy, weights)
